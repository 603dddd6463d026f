import copy
from collections.abc import Callable
from typing import Any

import pytest
import snapshots
import torch
from cases import CONVNET, MLP, MLP_BATCHNORM, RESIDUAL_CONV, SURGERY, TIED, Case
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from growmas import MAS, GradMax, Plan, Structure, Warmup
from growmas.errors import SurgeryError
from growmas.structure import Edit
from growmas.structure.initialisation.split import SplitUnits

EXACT: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD Nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "SGD weight decay": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "Adam foreach": lambda p: optim.Adam(p, lr=0.01, foreach=True),
    "Adam fused": lambda p: optim.Adam(p, lr=0.01, fused=True),
    "AdamW amsgrad": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1),
    "Adadelta": lambda p: optim.Adadelta(p),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01),
    "Adamax": lambda p: optim.Adamax(p, lr=0.01),
    "ASGD": lambda p: optim.ASGD(p, lr=0.01, t0=2),
    "Rprop": lambda p: optim.Rprop(p, lr=0.01),
}
"""Optimizers that treat every entry by itself: after surgery they go on as a masked run does."""

WHOLE: dict[str, Callable[[Any], optim.Optimizer]] = {
    "Adafactor": lambda p: optim.Adafactor(p, lr=0.01),
}
"""Optimizers whose update of an entry depends on the whole tensor."""
if hasattr(optim, "Muon"):  # since torch 2.9
    WHOLE["Muon"] = lambda p: optim.Muon([q for q in p if q.dim() == 2], lr=0.01)

by_optimizer = pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
by_every_optimizer = pytest.mark.parametrize(
    "make", [*EXACT.values(), *WHOLE.values()], ids=[*EXACT, *WHOLE]
)


def train(
    model: nn.Module, optimizer: optim.Optimizer, x: Tensor, steps: int, mask: Any = None
) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x).square().mean() + model(x).mean()).backward()
        if mask is not None:
            mask(dict(model.named_parameters()))
        optimizer.step()


def fresh_gradients_masked(edit: Edit) -> Callable[[dict[str, nn.Parameter]], None]:
    def mask(parameters: dict[str, nn.Parameter]) -> None:
        for name, changes in edit.changes.items():
            for change in changes if name in parameters else ():
                parameters[name].grad.index_fill_(change.dim, change.fresh, 0.0)

    return mask


def survivors(edit: Edit, name: str, tensor: Tensor) -> Tensor:
    for change in edit.changes.get(name, ()):
        tensor = tensor.index_select(change.dim, (change.source >= 0).nonzero().squeeze(1))
    return tensor


def kept(edit: Edit, name: str, tensor: Tensor) -> Tensor:
    for change in edit.changes.get(name, ()):
        tensor = tensor.index_select(change.dim, change.source[change.source >= 0])
    return tensor


@by_optimizer
@pytest.mark.parametrize("case", [MLP, CONVNET], ids=lambda case: case.name)
def test_training_goes_on_as_the_masked_reference_does(case: Case, make: Any):
    """Fresh units are kept without effect and removed ones masked; tolerance 1e-10, float64."""
    model, x = case.model(torch.float64).eval(), case.inputs(12, torch.float64)
    reference = copy.deepcopy(model)
    structure = Structure(model, x)
    first, second = list(structure.groups)[:2]
    optimizers = make(model.parameters()), make(reference.parameters())
    for net, optimizer in zip((model, reference), optimizers, strict=True):
        train(net, optimizer, x, 4)
    masked = next(m.layer for m in structure.groups[first].members if m.side == "in")
    edit = structure.apply(
        Plan(grow={first: 2, second: 1}, prune={first: [1]}, replace={first: [3]}),
        followers=[optimizers[0]],
    )
    column = reference.get_submodule(masked).weight
    with torch.no_grad():
        column[:, [1, 3]] = 0.0

    def silent(parameters: dict[str, nn.Parameter]) -> None:
        column.grad[:, [1, 3]] = 0.0
        for entry in optimizers[1].state[column].values():
            if isinstance(entry, Tensor) and entry.shape == column.shape:
                entry[:, [1, 3]] = 0.0

    train(model, optimizers[0], x, 4, fresh_gradients_masked(edit))
    train(reference, optimizers[1], x, 4, silent)
    for name, parameter in reference.named_parameters():
        ours = survivors(edit, name, dict(model.named_parameters())[name])
        torch.testing.assert_close(ours, kept(edit, name, parameter), rtol=0, atol=1e-10)


@by_every_optimizer
def test_state_follows_bit_for_bit_and_back_again(make: Any):
    model, x = CONVNET.model(), CONVNET.inputs(8)
    structure, optimizer = Structure(model, x), make(model.parameters())
    train(model, optimizer, x, 3)
    before = snapshots.of_optimizer_by_name(optimizer, model)
    edit = structure.apply(Plan(grow={"0": 3, "7": 2}), followers=[optimizer])
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held <= {id(p) for p in model.parameters()}
    structure.apply(Plan(prune=edit.born), followers=[optimizer])
    assert snapshots.of_optimizer_by_name(optimizer, model) == before
    train(model, optimizer, x, 2)


@by_every_optimizer
def test_a_group_of_one_unit_has_state_too(make: Any):
    model, x = nn.Sequential(nn.Linear(6, 1), nn.Tanh(), nn.Linear(1, 2)), MLP.inputs(8)
    optimizer = make(model.parameters())
    train(model, optimizer, x, 2)
    structure = Structure(model, x)
    before = snapshots.of_optimizer_by_name(optimizer, model)
    edit = structure.apply(Plan(grow={"0": 1}), followers=[optimizer])
    structure.apply(Plan(prune=edit.born), followers=[optimizer])
    assert snapshots.of_optimizer_by_name(optimizer, model) == before
    train(model, optimizer, x, 1)


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_optimizers_of_whole_tensors_stay_close(make: Any):
    """Adafactor scales by means over the tensor, Muon by its singular values."""
    model, x = MLP.model(), MLP.inputs(12)
    untouched = copy.deepcopy(model)
    optimizers = make(model.parameters()), make(untouched.parameters())
    for net, optimizer in zip((model, untouched), optimizers, strict=True):
        train(net, optimizer, x, 4)
    start = {name: p.detach().clone() for name, p in untouched.named_parameters()}
    edit = Structure(model, x).apply(Plan(grow={"0": 1, "2": 1}), followers=[optimizers[0]])
    train(model, optimizers[0], x, 4, fresh_gradients_masked(edit))
    train(untouched, optimizers[1], x, 4)
    for name, parameter in untouched.named_parameters():
        moved = (parameter - start[name]).norm()
        off = survivors(edit, name, dict(model.named_parameters())[name]) - parameter
        assert off.norm() <= 0.35 * moved, name


@pytest.mark.parametrize(
    ("make", "key", "expected"),
    [
        (lambda p: optim.Rprop(p, lr=0.02), "step_size", 0.02),
        (lambda p: optim.Adagrad(p, initial_accumulator_value=0.3), "sum", 0.3),
        (lambda p: optim.Adam(p), "exp_avg_sq", 0.0),
    ],
)
def test_fresh_state_is_what_the_optimizer_starts_with(make: Any, key: str, expected: float):
    model, x = MLP.model(), MLP.inputs(8)
    optimizer = make(model.parameters())
    train(model, optimizer, x, 2)
    Structure(model, x).apply(Plan(grow={"0": 2}), followers=[optimizer])
    assert optimizer.state[model[0].weight][key][-2:].flatten().tolist() == pytest.approx(
        [expected] * 12
    )


def test_averages_of_the_weights_start_at_the_fresh_weights():
    model, x = MLP.model(), MLP.inputs(8)
    optimizer = optim.ASGD(model.parameters(), lr=0.01)
    train(model, optimizer, x, 2)
    Structure(model, x).apply(Plan(grow={"0": 2}), followers=[optimizer])
    assert torch.equal(optimizer.state[model[0].weight]["ax"][-2:], model[0].weight[-2:])


class Preconditioned(optim.SGD):
    def step(self, closure: Any = None) -> None:
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["precond"] = torch.eye(len(parameter))


def test_what_cannot_follow_is_refused_by_name_and_all_at_once():
    model, x = MLP.model(), MLP.inputs(8)
    structure = Structure(model, x)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scaler.scale(model(x).sum()).backward()
    scaler.unscale_(optimizer)
    others = [optim.LBFGS(model.parameters()), optimizer, scaler, nn.Linear(2, 2), 3, model]
    with pytest.raises(SurgeryError) as caught:
        structure.apply(Plan(grow={"0": 1}), followers=others)
    for part in (
        "LBFGS keeps its state as one flat vector", "GradScaler is between unscale_",
        "Linear cannot follow: it is not a copy of the model, '0.bias'",
        "int cannot follow: expected",
        "Sequential cannot follow: it holds the model itself",
    ):  # fmt: skip
        assert part in str(caught.value)
    scaler.step(optimizer)
    scaler.update()
    structure.apply(Plan(grow={"0": 1}), followers=[optimizer, scaler])


def test_state_of_another_shape_is_refused_and_rolled_back():
    model, x = MLP.model(), MLP.inputs(8)
    structure, optimizer = Structure(model, x), Preconditioned(model.parameters(), lr=0.1)
    train(model, optimizer, x, 1)
    before = snapshots.of_model(model), snapshots.of_optimizer(optimizer)
    with pytest.raises(SurgeryError, match=r"Preconditioned keeps 'precond' of shape \(5, 5\)"):
        structure.apply(Plan(grow={"2": 1}), followers=[optimizer])
    assert (snapshots.of_model(model), snapshots.of_optimizer(optimizer)) == before


def test_sparse_adam_follows_the_width_of_an_embedding():
    model = nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Linear(4, 3), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(6, 2))
    x = torch.randint(7, (5, 2))
    structure = Structure(model, x)
    optimizer = optim.SparseAdam(model[0].parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    if "0" not in structure.groups:
        pytest.skip("embeddings are not units here")
    state = optimizer.state[model[0].weight]["exp_avg"].clone()
    optimizer.zero_grad()
    structure.apply(Plan(grow={"0": 2}), followers=[optimizer])
    assert torch.equal(optimizer.state[model[0].weight]["exp_avg"][:, :4], state)
    model(x).square().sum().backward()
    optimizer.step()


SCHEDULERS: tuple[Callable[[optim.Optimizer], Any], ...] = (
    lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 10),
    lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
    lambda o: optim.lr_scheduler.ReduceLROnPlateau(o),
    lambda o: optim.swa_utils.SWALR(o, 0.1),
)


@pytest.mark.parametrize("make", SCHEDULERS)
def test_schedulers_go_on(make: Any):
    model, x = MLP.model(), MLP.inputs(8)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    train(model, optimizer, x, 1)
    Structure(model, x).apply(Plan(grow={"0": 1}), followers=[optimizer, scheduler])
    train(model, optimizer, x, 1)
    scheduler.step(*([1.0] if isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau) else []))


def averaged(model: nn.Module) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))


@pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)
@pytest.mark.parametrize("wrap", [averaged, copy.deepcopy], ids=["EMA", "copy"])
def test_copies_of_the_model_follow(case: Case, wrap: Any):
    model, x = case.model().eval(), case.inputs(8)
    follower = wrap(model).eval()
    with torch.no_grad():
        for parameter in follower.parameters():
            parameter.mul_(0.9)
    inner = follower.module if wrap is averaged else follower
    old = {name: tensor.clone() for name, tensor in named_tensors(inner).items()}
    expected = torch.cat([t.flatten() for t in outputs(follower, x)])
    structure = Structure(model, x)
    edit = structure.apply(Plan(grow=dict.fromkeys(structure.groups, 2)), followers=[follower])
    now = torch.cat([t.flatten() for t in outputs(follower, x)])
    torch.testing.assert_close(now, expected)
    fresh = named_tensors(model)
    for name, tensor in named_tensors(inner).items():
        assert tensor.shape == fresh[name].shape
        assert torch.equal(survivors(edit, name, tensor), kept(edit, name, old[name]))
        for change in edit.changes.get(name, ()):
            where = (change.dim, change.fresh)
            assert torch.equal(tensor.index_select(*where), fresh[name].index_select(*where))
    structure.apply(Plan(prune=edit.born), followers=[follower])
    assert snapshots.values(named_tensors(inner)) == snapshots.values(old)
    if wrap is averaged:
        follower.update_parameters(model)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in [*model.named_parameters(), *model.named_buffers()]}


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        found = model(x)
    return found if isinstance(found, tuple) else (found,)


def test_an_average_of_a_split_network_is_split_too():
    model, x = MLP_BATCHNORM.model().eval(), MLP_BATCHNORM.inputs(8)
    average = averaged(model).eval()
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.mul_(0.9)
    before = average(x)
    Structure(model, x).apply(
        Plan(grow={"0": 2}), init=SplitUnits(parents={"0": [1, 1]}), followers=[average]
    )
    torch.testing.assert_close(average(x), before)


class Failing:
    def follow(self, edit: Edit) -> None:
        raise RuntimeError("the last one fails")


WAYS = [
    (MLP_BATCHNORM, "zero_out"),
    (RESIDUAL_CONV, "zero_out"),
    (TIED, "zero_out"),
    (MLP_BATCHNORM, "split"),
    (RESIDUAL_CONV, "split"),
    (MLP_BATCHNORM, GradMax([MLP.inputs(8)], lambda m, b: m(b).square().mean())),
]


@pytest.mark.parametrize(("case", "init"), WAYS)
def test_everything_is_as_before_when_the_last_follower_fails(case: Case, init: Any):
    model, x = case.model(), case.inputs(8)
    structure, mas = Structure(model, x), MAS(model)
    mas.consolidate([x])
    optimizer = optim.Adam(model.parameters(), amsgrad=True)
    warmup, average, twin = Warmup(model, optimizer), averaged(model), copy.deepcopy(model)
    train(model, optimizer, x, 2)

    def state() -> Any:
        return (
            snapshots.of_model(model),
            snapshots.of_optimizer(optimizer),
            snapshots.of_penalty(mas),
            snapshots.of_model(average),
            snapshots.of_model(twin),
            snapshots.of_groups(structure),
            snapshots.of_random_state(),
            dict(warmup.born),
        )

    before = state()
    everyone = [optimizer, mas, average, twin, warmup, Failing()]
    plan = Plan(grow=dict.fromkeys(structure.groups, 2))
    with pytest.raises(RuntimeError, match="the last one fails"):
        structure.apply(plan, followers=everyone, init=init, calibrate=[x])
    assert state() == before


def first_moves(model: nn.Module, optimizer: optim.Optimizer, steps: int) -> Tensor:
    """Moves of the fresh rows of the first layer under a steady gradient, in units of lr."""
    moves = []
    for _ in range(steps):
        before = model[0].weight.detach().clone()
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        moves.append((before - model[0].weight.detach()) / optimizer.param_groups[0]["lr"])
    return torch.stack(moves)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_a_warmup_tames_the_first_moves(kind: Any):
    found = {}
    for warm in (False, True):
        model, x = MLP.model(torch.float64), MLP.inputs(8, torch.float64)
        optimizer = kind(model.parameters(), lr=1e-3, weight_decay=0)
        first_moves(model, optimizer, 2000)
        followers: list[Any] = [optimizer]
        if warm:
            followers.append(Warmup(model, optimizer))
        Structure(model, x).apply(Plan(grow={"0": 2}), followers=followers)
        found[warm] = first_moves(model, optimizer, 30)
    assert found[False][0, -1].max() == pytest.approx(2.94, abs=0.05)
    assert found[False][:, -1].max() == pytest.approx(6.2, abs=0.3)
    assert found[True][:, -2:].numpy() == pytest.approx(1.0, abs=1e-3)
    assert torch.equal(found[True][:, :8], found[False][:, :8])  # old rows are not touched


def test_warmups_compose_over_edits_and_end():
    model, x = MLP.model(torch.float64), MLP.inputs(8, torch.float64)
    structure, optimizer = (
        Structure(model, x),
        optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99)),
    )
    warmup = Warmup(model, optimizer)
    first_moves(model, optimizer, 300)
    structure.apply(Plan(grow={"0": 1}), followers=[optimizer, warmup])
    first_moves(model, optimizer, 7)
    structure.apply(Plan(grow={"0": 1}, prune={"0": [0]}), followers=[warmup, optimizer])
    assert warmup.state_dict()["0.weight"][0].tolist() == [0.0] * 7 + [300.0, 307.0]
    assert first_moves(model, optimizer, 20)[:, -2:].numpy() == pytest.approx(1.0, abs=1e-3)
    restored = Warmup(model, optimizer)
    restored.load_state_dict(warmup.state_dict())
    restored.close()
    first_moves(model, optimizer, 600)
    assert warmup.born == {}
    with pytest.raises(SurgeryError, match="got SGD"):
        Warmup(model, optim.SGD(model.parameters(), lr=0.1))
