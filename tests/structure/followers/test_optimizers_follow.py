"""An optimizer goes through surgery as if the rest of the network had always had that shape."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import reference
import snapshots
import torch
from cases import CONVNET, MLP, RESIDUAL_CONV, SURGERY, Case, tensors
from optimizers_used import OPTIMIZERS, by_optimizer
from torch import Tensor, nn

from growmas import MAS, Plan, Structure

by_name = pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)


def batches(case: Case, steps: int, outputs: int, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [
        (
            case.inputs(6, torch.float64, seed=100 + n),
            torch.randn(
                6, outputs, generator=torch.Generator().manual_seed(n), dtype=torch.float64
            ),
        )
        for n in range(start, start + steps)
    ]


def fresh_entries(edit: Any, model: nn.Module) -> dict[str, Tensor]:
    """1 at entries that survived, 0 at fresh ones."""
    masks = {}
    for name, changes in edit.changes.items():
        if name not in dict(model.named_parameters()):
            continue
        masks[name] = torch.ones_like(model.get_parameter(name))
        for change in changes:
            masks[name].index_fill_(change.dim, change.fresh, 0.0)
    return masks


CASES = pytest.mark.parametrize(
    ("case", "outputs"),
    [(MLP, 3), (CONVNET, 3), (RESIDUAL_CONV, 2)],
    ids=["mlp", "conv-bn-pool", "residual-conv"],
)


@CASES
@by_optimizer
def test_old_weights_move_as_in_the_untouched_network_while_fresh_ones_are_held(
    case: Case, outputs: int, make: Callable[[Any], torch.optim.Optimizer]
) -> None:
    model = case.model(torch.float64).eval()
    optimizer = make(model.parameters())
    reference.train(model, optimizer, batches(case, 3, outputs))
    twin = copy.deepcopy(model)
    twin_optimizer = make(twin.parameters())
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    structure = Structure(model, case.inputs(3, torch.float64))
    edit = structure.apply(Plan(grow=dict.fromkeys(structure.groups, 2)), followers=[optimizer])
    masks = fresh_entries(edit, model)
    reference.train(model, optimizer, batches(case, 4, outputs, start=3), masks)
    reference.train(twin, twin_optimizer, batches(case, 4, outputs, start=3))
    for name, old in twin.named_parameters():
        found = model.get_parameter(name).detach()
        for change in edit.changes.get(name, ()):
            found = found.index_select(change.dim, (change.source >= 0).nonzero().squeeze(1))
        torch.testing.assert_close(found, old.detach(), rtol=1e-9, atol=1e-11)


@CASES
@by_optimizer
def test_steps_after_pruning_equal_steps_with_the_units_masked(
    case: Case, outputs: int, make: Callable[[Any], torch.optim.Optimizer]
) -> None:
    model = case.model(torch.float64).eval()
    optimizer = make(model.parameters())
    reference.train(model, optimizer, batches(case, 3, outputs))
    structure = Structure(model, case.inputs(3, torch.float64))
    removed = {name: [0, 2] for name in structure.groups}

    twin = copy.deepcopy(model)
    masked = make(twin.parameters())
    masked.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    masks: dict[str, Tensor] = {}
    for group, units in removed.items():
        for layer, columns, first in case.readers[group]:
            mask = masks.setdefault(f"{layer}.weight", torch.ones_like(
                twin.get_submodule(layer).weight
            ))  # fmt: skip
            for unit in units:
                mask[:, first + unit * columns : first + (unit + 1) * columns] = 0.0
    for name, mask in masks.items():  # masked now, and kept so by zero gradients and no state
        p = twin.get_parameter(name)
        with torch.no_grad():
            p.mul_(mask)
        for key, value in masked.state[p].items():
            if isinstance(value, Tensor) and value.shape == p.shape:
                value.masked_fill_(mask == 0, 1.0 if key in ("step_size",) else 0.0)

    edit = structure.apply(Plan(prune=removed), followers=[optimizer])
    reference.train(model, optimizer, batches(case, 4, outputs, start=3))
    reference.train(twin, masked, batches(case, 4, outputs, start=3), masks)
    for name, old in twin.named_parameters():
        wanted = edit.reindex(name, old.detach())
        torch.testing.assert_close(
            model.get_parameter(name).detach(), wanted, rtol=1e-9, atol=1e-11
        )


@by_name
def test_the_object_stays_and_holds_exactly_the_live_parameters(case: Case) -> None:
    model = case.optimizer_ready()
    named = dict(model.named_parameters())
    weights = [p for n, p in named.items() if n.endswith("weight")]
    rest = [p for n, p in named.items() if not n.endswith("weight")]
    groups = [{"params": weights, "lr": 0.1, "name": "weights"}]
    groups += [{"params": rest, "weight_decay": 0.5, "name": "rest"}] if rest else []
    optimizer = torch.optim.Adam(groups, lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    scheduler.step()
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    objects = [id(group) for group in optimizer.param_groups]

    structure = Structure(model, case.inputs(3))
    structure.apply(
        Plan(grow=dict.fromkeys(structure.groups, 2), prune={n: [0] for n in structure.groups}),
        followers=[optimizer],
    )
    assert [
        {k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups
    ] == settings
    assert [id(group) for group in optimizer.param_groups] == objects
    names = {id(p): n for n, p in model.named_parameters()}
    held = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    assert held[0] == [n for n in named if n.endswith("weight")]
    assert [n for part in held[1:] for n in part] == [n for n in named if not n.endswith("weight")]
    assert {names[id(p)] for p in optimizer.state} == set(named)
    for p, state in optimizer.state.items():
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == p.shape
    sum(out.square().mean() for out in tensors(model(case.inputs(4)))).backward()
    optimizer.step()
    scheduler.step()
    fresh = torch.optim.Adam(model.parameters())
    fresh.zero_grad()


def test_the_state_of_fresh_entries_is_zero() -> None:
    model = MLP.optimizer_ready()
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.step()
    kept = optimizer.state[model[0].weight]["exp_avg"].clone()
    steps = optimizer.state[model[0].weight]["step"].clone()
    Structure(model, MLP.inputs(3)).apply(Plan(grow={"0": 2}), followers=[optimizer])
    state = optimizer.state[model[0].weight]
    assert torch.equal(state["exp_avg"][:8], kept)
    assert not state["exp_avg"][8:].any()
    assert not state["exp_avg_sq"][8:].any()
    assert torch.equal(state["step"], steps)


def test_an_optimizer_of_other_parameters_is_left_alone() -> None:
    other = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    other(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    before = snapshots.of_optimizer(optimizer)
    Structure(MLP.model(), MLP.inputs(3)).apply(Plan(grow={"0": 2}), followers=[optimizer])
    assert snapshots.of_optimizer(optimizer) == before


def test_an_optimizer_before_its_first_step() -> None:
    model = MLP.optimizer_ready()
    optimizer = torch.optim.Adam(model.parameters())
    Structure(model, MLP.inputs(3)).apply(Plan(grow={"0": 2}), followers=[optimizer])
    assert not optimizer.state
    optimizer.step()
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters()}


def test_several_followers_each_once() -> None:
    model = MLP.optimizer_ready()
    optimizers = [
        torch.optim.Adam(model[0].parameters()),
        torch.optim.SGD(model[2:].parameters(), 1),
    ]
    seen: list[tuple[int, ...]] = []

    class Average:
        """An exponential average of the parameters, by name."""

        def __init__(self) -> None:
            self.values = {n: p.detach().clone() for n, p in model.named_parameters()}

        def follow(self, edit: Any) -> None:
            seen.append(edit.born["0"])
            self.values = {n: edit.reindex(n, value) for n, value in self.values.items()}

    average, mas = Average(), MAS(model)
    mas.consolidate([MLP.inputs(3)])
    Structure(model, MLP.inputs(3)).apply(
        Plan(grow={"0": 2}), followers=iter([*optimizers, average, mas])
    )
    assert seen == [(8, 9)]
    assert {n: v.shape for n, v in average.values.items()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    held = [
        p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]
    ]
    assert [id(p) for p in held] == [id(p) for p in model.parameters()]


MIX_ENTRIES = {"Adafactor", "Muon"} & {*dir(torch.optim)}  # Muon since torch 2.9
"""Their updates hang on whole rows or matrices: state follows, the next steps are others'."""


def test_every_optimizer_of_torch_is_spoken_for() -> None:
    """Followed exactly, followed but for mixing entries, or refused by name."""
    exact = {type(make([nn.Parameter(torch.ones(1))])).__name__ for make in OPTIMIZERS.values()}
    every = {
        name
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    }
    sparse = {"SparseAdam"}  # see test_sparse_gradients_follow
    assert every - {"Optimizer"} == exact | MIX_ENTRIES | sparse | {"LBFGS"}


@pytest.mark.parametrize("name", sorted(MIX_ENTRIES))
def test_state_of_optimizers_that_mix_entries_follows(name: str) -> None:
    model = MLP.optimizer_ready()
    optimizer = getattr(torch.optim, name)([p for p in model.parameters() if p.dim() == 2], lr=0.1)
    optimizer.step()
    Structure(model, MLP.inputs(3)).apply(
        Plan(grow={"0": 3}, prune={"2": [1]}), followers=[optimizer]
    )
    model(MLP.inputs(4)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"capturable": False}])
def test_variants_of_adam(options: dict[str, bool]) -> None:
    model = MLP.optimizer_ready()
    optimizer = torch.optim.Adam(model.parameters(), **options)
    optimizer.step()
    Structure(model, MLP.inputs(3)).apply(
        Plan(grow={"0": 3}, prune={"2": [1]}), followers=[optimizer]
    )
    model(MLP.inputs(4)).square().sum().backward()
    optimizer.step()


def test_a_state_saved_after_surgery_loads_into_a_fresh_optimizer() -> None:
    model = MLP.optimizer_ready()
    make = OPTIMIZERS["AdamW amsgrad"]
    optimizer = make(model.parameters())
    optimizer.step()
    Structure(model, MLP.inputs(3)).apply(
        Plan(grow={"0": 3}, prune={"2": [1]}), followers=[optimizer]
    )
    fresh = make(model.parameters())
    fresh.load_state_dict(optimizer.state_dict())
    by_name = snapshots.of_optimizer_by_name
    assert by_name(fresh, model) == by_name(optimizer, model)
