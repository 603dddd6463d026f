"""Growing leaves the function alone; pruning is cutting; both together are nothing at all."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import reference
import snapshots
import torch
from cases import CONVNET, DROPOUT, MLP, MLP_BATCHNORM, SURGERY, TIED, Case, tensors
from optimizers_used import OPTIMIZERS, by_optimizer
from torch import Tensor, nn

from growmas import MAS, Plan, Structure, mas_importance

by_name = pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)


def outputs(model: nn.Module, x: Tensor, train: bool = False) -> tuple[Tensor, ...]:
    """What a copy of the model gives, so that train mode leaves no trace."""
    model = copy.deepcopy(model).train(train)
    with torch.no_grad():
        return tensors(model(x))


def silenced(model: nn.Module, case: Case, units: dict[str, list[int]]) -> nn.Module:
    """A copy in which nobody reads the units, by the table of readers."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for group, indices in units.items():
            for layer, columns, first in case.readers[group]:
                for index in indices:
                    start = first + index * columns
                    model.get_submodule(layer).weight[:, start : start + columns] = 0.0
    return model


def lived_in(
    case: Case, make: Callable[[Any], torch.optim.Optimizer], dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, torch.optim.Optimizer, MAS]:
    """A model after three steps, with state, gradients, importance and anchors."""
    model = case.model(dtype)
    optimizer, mas = make(model.parameters()), MAS(model)
    for step in range(3):
        x = case.inputs(6, dtype, seed=step)
        optimizer.zero_grad()
        sum(out.square().mean() for out in tensors(model(x))).backward()
        optimizer.step()
        if step == 1:
            mas.consolidate([x])
    return model, optimizer, mas


@by_name
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_growing_leaves_the_outputs_unchanged(case: Case, train: bool) -> None:
    if train and case is DROPOUT:
        pytest.skip("random in train mode")
    model, x = case.model(), case.inputs(5)
    before = outputs(model, x, train)
    structure = Structure(model, case.inputs(3, seed=7))
    structure.apply(Plan(grow=dict.fromkeys(structure.groups, 3)))
    for new, old in zip(outputs(model, x, train), before, strict=True):
        assert float((new - old).abs().max()) <= 1e-6
    for name, group in structure.groups.items():
        assert group.width == case.groups[name] + 3


@by_name
def test_fresh_columns_are_zero_and_fresh_rows_are_not(case: Case) -> None:
    model = case.model()
    old = {name: p.detach().clone() for name, p in model.named_parameters()}
    structure = Structure(model, case.inputs(3))
    edit = structure.apply(Plan(grow=dict.fromkeys(structure.groups, 2)))
    for name, changes in edit.changes.items():
        if not name.endswith("weight") or model.get_parameter(name).dim() < 2:
            continue
        weight = model.get_parameter(name).detach()
        fresh = {change.dim: set(change.fresh.tolist()) for change in changes}
        kept = [i for i in range(len(weight)) if i not in fresh.get(0, ())]
        assert torch.equal(
            weight[kept][:, [j for j in range(weight.shape[1]) if j not in fresh.get(1, ())]],
            old[name],
        )
        if 1 in fresh:
            assert not weight[:, sorted(fresh[1])].any()
        rows = weight[sorted(fresh.get(0, ()))]
        read = [j for j in range(weight.shape[1]) if j not in fresh.get(1, ())]
        assert (rows[:, read] != 0).all()
        bound = 1 / weight[0].numel() ** 0.5
        assert float(rows.abs().max()) <= bound if len(rows) else True


def test_fresh_rows_use_the_whole_range_of_the_default() -> None:
    net = nn.Sequential(nn.Linear(25, 4), nn.ReLU(), nn.Linear(4, 2))
    Structure(net, torch.randn(2, 25)).apply(Plan(grow={"0": 200}))
    rows = net[0].weight[4:].detach()
    assert 0.19 < float(rows.abs().max()) <= 0.2
    assert abs(float(rows.mean())) < 0.02
    assert 0.1 < float(net[0].bias[4:].detach().abs().max()) <= 0.2


def test_fresh_norm_channels_are_neutral() -> None:
    net = MLP_BATCHNORM.model()
    Structure(net, MLP_BATCHNORM.inputs(3)).apply(Plan(grow={"0": 2}))
    norm = net[1]
    fresh = {n: getattr(norm, n)[7:].tolist() for n in ("weight", "bias")}
    assert fresh == {"weight": [1.0, 1.0], "bias": [0.0, 0.0]}
    assert norm.running_mean[7:].tolist() == [0.0, 0.0]
    assert norm.running_var[7:].tolist() == [1.0, 1.0]
    assert norm.num_features == 9


def test_the_randomness_of_fresh_rows_is_the_generators() -> None:
    def rows(seed: int, own: bool) -> Tensor:
        net = MLP.model()
        generator = torch.Generator().manual_seed(seed)
        structure = Structure(net, MLP.inputs(2), generator=None if own else generator)
        structure.apply(Plan(grow={"0": 2}), generator=generator if own else None)
        return net[0].weight[8:].detach()

    random_state = snapshots.of_random_state()
    assert torch.equal(rows(3, own=True), rows(3, own=False))
    assert not torch.equal(rows(3, own=True), rows(4, own=True))
    assert snapshots.of_random_state() == random_state


@by_name
@by_optimizer
def test_growing_then_pruning_the_same_units_is_nothing_at_all(
    case: Case, make: Callable[[Any], torch.optim.Optimizer]
) -> None:
    model, optimizer, mas = lived_in(case, make)
    structure = Structure(model, case.inputs(3))

    def everything() -> dict[str, Any]:
        return {
            "parameters": snapshots.values(model.named_parameters()),
            "gradients": {n: snapshots.bits(p.grad) for n, p in model.named_parameters()},
            "buffers": snapshots.values(model.named_buffers()),
            "optimizer": snapshots.of_optimizer_by_name(optimizer, model),
            "penalty": snapshots.of_penalty(mas),
            "sizes": structure.layers(),
            "units": {n: g.unit_ids for n, g in structure.groups.items()},
            "places": {
                n: [m.positions.tolist() for m in g.members] for n, g in structure.groups.items()
            },
        }

    before = everything()
    followers = [optimizer, mas]
    edit = structure.apply(Plan(grow=dict.fromkeys(structure.groups, 3)), followers=followers)
    assert everything() != before
    structure.apply(Plan(prune=edit.born), followers=followers)
    after = everything()
    for part, kept in before.items():
        assert after[part] == kept, part


PRUNED = {
    MLP: {"0": [1, 4, 7], "2": [0]},
    MLP_BATCHNORM: {"0": [0, 6], "3": [2], "6": [1, 3]},
    CONVNET: {"0": [4], "4": [0, 2], "7": [3, 5]},
}


@pytest.mark.parametrize("case", PRUNED, ids=lambda case: case.name)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_pruning_equals_the_network_cut_by_hand(case: Case, train: bool) -> None:
    model, x = case.model(), case.inputs(5)
    kept = {
        group: [unit for unit in range(case.groups[group]) if unit not in units]
        for group, units in PRUNED[case].items()
    }
    cut = reference.cut_sequential(model, kept, pixels=4)
    Structure(model, case.inputs(3)).apply(Plan(prune=PRUNED[case]))
    assert [p.shape for p in model.parameters()] == [p.shape for p in cut.parameters()]
    for found, wanted in zip(model.state_dict().values(), cut.state_dict().values(), strict=True):
        assert snapshots.bits(found) == snapshots.bits(wanted)
    assert torch.equal(outputs(model, x, train)[0], outputs(cut, x, train)[0])
    for module, twin in zip(model, cut, strict=True):
        for size in ("in_features", "out_features", "in_channels", "out_channels", "num_features"):
            assert getattr(module, size, None) == getattr(twin, size, None)


@by_name
@pytest.mark.parametrize("seed", range(3))
def test_pruning_equals_silencing_by_the_table(case: Case, seed: int) -> None:
    model, x = case.model(), case.inputs(5)
    generator = torch.Generator().manual_seed(seed)
    structure = Structure(model, case.inputs(3))
    units = {
        name: sorted(
            torch.randperm(group.width, generator=generator)[
                : min(1 + seed, group.width - 1)
            ].tolist()
        )
        for name, group in structure.groups.items()
    }
    if case.together:
        units = dict.fromkeys(units, [0, 2][: 1 + seed])
    expected = outputs(silenced(model, case, units), x)
    edit = structure.apply(Plan(prune=units))
    assert edit.died == {name: tuple(ids) for name, ids in units.items()}
    for new, old in zip(outputs(model, x), expected, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-6)


def test_a_flattened_channel_takes_its_pixels_along() -> None:
    model = CONVNET.model()
    weight = model[7].weight.detach().clone()
    Structure(model, CONVNET.inputs(2)).apply(Plan(prune={"4": [1]}, grow={"4": 2}))
    kept = [c * 4 + p for c in (0, 2, 3) for p in range(4)]
    assert torch.equal(model[7].weight[:, :12], weight[:, kept])
    assert not model[7].weight[:, 12:].any()
    assert model[7].weight.shape == (6, 20)


@by_name
def test_pruning_and_growing_in_one_plan(case: Case) -> None:
    model, x = case.model(), case.inputs(5)
    structure = Structure(model, case.inputs(3))
    units = {name: [0, 2] for name in structure.groups}
    expected = outputs(silenced(model, case, units), x)
    structure.apply(Plan(prune=units, grow=dict.fromkeys(structure.groups, 3)))
    for new, old in zip(outputs(model, x), expected, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-6)
    for name, group in structure.groups.items():
        width = case.groups[name]
        kept = tuple(unit for unit in range(width) if unit not in (0, 2))
        assert group.unit_ids == (*kept, *range(width, width + 3))


def test_one_group_shrinks_while_another_grows() -> None:
    model, x = CONVNET.model(), CONVNET.inputs(5)
    structure = Structure(model, CONVNET.inputs(3))
    expected = outputs(silenced(model, CONVNET, {"4": [0, 3]}), x)
    edit = structure.apply(Plan(prune={"4": [3, 0]}, grow={"0": 2, "7": 1}, reason="a try"))
    torch.testing.assert_close(outputs(model, x), expected)
    assert edit.born == {"0": (5, 6), "7": (6,)}
    assert edit.died == {"4": (0, 3)}
    assert edit.reason == "a try"
    assert [group.width for group in structure.groups.values()] == [7, 2, 7]


def test_all_units_may_be_exchanged_at_once() -> None:
    model, x = CONVNET.model(), CONVNET.inputs(5)
    structure = Structure(model, CONVNET.inputs(3))
    expected = outputs(silenced(model, CONVNET, {"4": [0, 1, 2, 3]}), x)
    structure.apply(Plan(prune={"4": [0, 1, 2, 3]}, grow={"4": 2}))
    torch.testing.assert_close(outputs(model, x), expected)
    assert structure.groups["4"].unit_ids == (4, 5)


def test_ids_compose_and_are_never_used_again() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    rows = {unit: structure.model[0].weight[unit].detach().clone() for unit in range(8)}
    born: list[int] = []
    for prune, grow in (([7], 2), ([8, 0], 1), ([9, 10], 2), ([], 0), ([3], 1)):
        edit = structure.apply(Plan(prune={"0": prune}, grow={"0": grow}))
        assert not set(born) & set(edit.born.get("0", ()))
        born += edit.born.get("0", ())
    assert born == [8, 9, 10, 11, 12, 13]
    group = structure.groups["0"]
    assert group.unit_ids == (1, 2, 4, 5, 6, 11, 12, 13)
    assert group.next_id == 14
    for index, unit in enumerate(group.unit_ids[:5]):
        assert torch.equal(structure.model[0].weight[index], rows[unit])
    assert group.indices([6, 11]) == [4, 5]


def test_births_are_the_tasks_begun() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    assert structure.task == 0
    assert structure.begin_task("first") == 0
    structure.apply(Plan(grow={"0": 1}))
    assert structure.begin_task("second") == 1
    edit = structure.apply(Plan(grow={"0": 2}, prune={"0": [0]}))
    assert edit.task == 1
    assert structure.groups["0"].births == (*(0,) * 8, 1, 1)
    assert structure.tasks == ("first", "second")


def test_an_empty_plan_changes_nothing() -> None:
    model, optimizer, mas = lived_in(MLP, OPTIMIZERS["Adam"])
    structure = Structure(model, MLP.inputs(3))
    before = (
        snapshots.of_model(model),
        snapshots.of_optimizer(optimizer),
        snapshots.of_penalty(mas),
        snapshots.of_groups(structure),
    )
    for plan in (Plan(), Plan(prune={"0": []}, grow={"2": 0})):
        assert not plan
        edit = structure.apply(plan, followers=[optimizer, mas])
        assert not edit.born
        assert not edit.died
        assert not edit.replaced
    assert before == (
        snapshots.of_model(model),
        snapshots.of_optimizer(optimizer),
        snapshots.of_penalty(mas),
        snapshots.of_groups(structure),
    )


def test_old_objects_are_mapped_to_new_ones_and_an_old_graph_still_works() -> None:
    model, x = MLP.model(), MLP.inputs(3)
    old = dict(model.named_parameters())
    loss = model(x).square().sum()
    edit = Structure(model, x).apply(Plan(grow={"0": 1}))
    new = dict(model.named_parameters())
    assert edit.replaced == {old[n]: new[n] for n in ("0.weight", "0.bias", "2.weight")}
    assert all(old[n] is new[n] for n in ("2.bias", "4.weight", "4.bias"))
    loss.backward()
    assert old["0.weight"].grad is not None


def test_gradients_follow() -> None:
    model = MLP.optimizer_ready()
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    Structure(model, MLP.inputs(3)).apply(Plan(prune={"0": [2]}, grow={"0": 1}))
    kept = [0, 1, 3, 4, 5, 6, 7]
    assert torch.equal(model[0].weight.grad[:7], grads["0.weight"][kept])
    assert not model[0].weight.grad[7:].any()
    assert torch.equal(model[2].weight.grad[:, :7], grads["2.weight"][:, kept])
    assert torch.equal(model[4].weight.grad, grads["4.weight"])


def test_frozen_parameters_stay_frozen() -> None:
    model = CONVNET.model()
    model[0].requires_grad_(False)
    model[7].bias.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    Structure(model, CONVNET.inputs(3)).apply(Plan(grow={"0": 1, "4": 1}, prune={"7": [0]}))
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.is_leaf for p in model.parameters())


def test_channels_last_is_kept() -> None:
    model = CONVNET.optimizer_ready().to(memory_format=torch.channels_last)
    for p in model.parameters():
        p.grad = p.grad.clone(memory_format=torch.preserve_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    mas = MAS(model)
    mas.consolidate([CONVNET.inputs(3)])
    Structure(model, CONVNET.inputs(3)).apply(
        Plan(grow={"0": 2, "4": 1}, prune={"4": [0]}), followers=[optimizer, mas]
    )
    for name in ("0.weight", "4.weight"):
        p = model.get_parameter(name)
        held = (p, p.grad, optimizer.state[p]["momentum_buffer"], mas.omega[name], mas.anchor[name])
        for tensor in held:
            assert tensor.is_contiguous(memory_format=torch.channels_last)
            assert not tensor.is_contiguous()


def test_tied_weights_stay_tied() -> None:
    model, optimizer, mas = lived_in(TIED, OPTIMIZERS["Adam"])
    names = [n for n, _ in model.named_parameters()]
    Structure(model, TIED.inputs(3)).apply(
        Plan(grow=dict.fromkeys(TIED.groups, 2)), followers=[optimizer, mas]
    )
    assert model.second.weight is model.third.weight
    assert model.second.weight.shape == (7, 7)
    assert [n for n, _ in model.named_parameters()] == names
    assert mas.omega["second.weight"].shape == (7, 7)


class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).relu())


def test_where_a_row_and_a_column_are_tied_the_zeros_win() -> None:
    """The entries that make a unit are those that read it; random ones would change the output."""
    model, x = TiedEmbedding(), torch.randint(11, (3, 4))
    structure, before = Structure(model, x), outputs(model, x)[0]
    if "embed" not in structure.groups:
        assert "embed" in structure.fixed or "head" in structure.fixed
        return
    structure.apply(Plan(grow={"embed": 2}))
    # to rounding: a wider matrix product may add up in another order
    torch.testing.assert_close(outputs(model, x)[0], before)
    assert model.embed.weight is model.head.weight
    assert not model.embed.weight[:, 6:].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    model, x = CONVNET.model(dtype), CONVNET.inputs(3, dtype)
    before = outputs(model, x)[0]
    Structure(model, x).apply(Plan(grow={"0": 2, "4": 1}))
    assert all(p.dtype == dtype for p in model.parameters())
    torch.testing.assert_close(outputs(model, x)[0], before)


def test_forward_hooks_of_layers_survive() -> None:
    model, x = MLP.model(), MLP.inputs(3)
    seen: list[tuple[int, ...]] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    Structure(model, x).apply(Plan(grow={"0": 2}))
    seen.clear()
    model(x)
    assert seen == [(3, 10)]


@by_name
def test_grown_and_pruned_networks_learn_in_every_weight(case: Case) -> None:
    """After one step the fresh columns live, after two the fresh rows."""
    model, optimizer, _ = lived_in(case, OPTIMIZERS["Adam"])
    structure = Structure(model, case.inputs(3))
    edit = structure.apply(
        Plan(grow=dict.fromkeys(structure.groups, 6), prune={n: [1] for n in structure.groups}),
        followers=[optimizer],
    )
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    for step in range(4):
        optimizer.zero_grad()
        x = case.inputs(32, seed=step)
        sum((out - 1).square().mean() for out in tensors(model(x))).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        moved = p.detach() != start[name]
        assert moved.any(), name
        for change in edit.changes.get(name, ()):
            assert moved.index_select(change.dim, change.fresh).any(), name


def test_importance_after_surgery_is_measured_as_ever() -> None:
    model = CONVNET.model(torch.float64)
    x = CONVNET.inputs(5, torch.float64)
    Structure(model, x).apply(Plan(grow={"0": 1}, prune={"4": [1]}))
    found, wanted = mas_importance(model, [x]), reference.importance(model, x.split(1))
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])
