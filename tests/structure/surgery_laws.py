"""What must hold for every group of every network."""

import copy
import gc
import random
import re
from typing import Any

import torch
from torch import Tensor, nn

from growmas import Plan, Structure, UnitGroup
from growmas.batches import example_forward, float_tensors
from growmas.structure.layers.axes import Role
from growmas.structure.units.placement import placements

TOLERANCE = 1e-6
"""Relative to the largest output. Fresh columns are zero, so only the order of summation changes:
a few float32 roundings of 6e-8."""


def structure_of(model: nn.Module, x: Any) -> Structure:
    return Structure(model, x, generator=torch.Generator().manual_seed(0))


def distinct(structure: Structure) -> dict[str, UnitGroup]:
    """Of groups that differ only by the numbers in their names, the last."""
    last = {re.sub(r"\d+", "", name): name for name in structure.groups}
    return {name: structure.groups[name] for name in last.values()}


def outputs(model: nn.Module, x: Any) -> list[Tensor]:
    """In the mode the model is in, with the same dropout every time; buffers stay."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return float_tensors(example_forward(copy.deepcopy(model), x))


def change(model: nn.Module, x: Any, before: list[Tensor]) -> float:
    after = outputs(model, x)
    assert [t.shape for t in after] == [t.shape for t in before]
    return max(
        float((new - old).abs().max() / old.abs().max())
        for new, old in zip(after, before, strict=True)
    )


def backward(model: nn.Module, x: Any) -> None:
    loss = sum(output.square().mean() for output in float_tensors(example_forward(model, x)))
    assert isinstance(loss, Tensor)
    loss.backward()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Every tensor of the model and the optimizer by name, and every plain attribute."""
    found: dict[str, Any] = dict(model.state_dict())
    for name, parameter in model.named_parameters():
        found[f"{name} gradient"] = parameter.grad
        found |= {f"{name} {key}": value for key, value in optimizer.state[parameter].items()}
    for name, module in model.named_modules():
        sizes = {k: v for k, v in vars(module).items() if isinstance(v, int | tuple)}
        found |= {f"{name}.{key}": value for key, value in sizes.items()}
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in found.items()}


def check_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(found[name], value) if isinstance(value, Tensor) else None
        assert found[name] == value if same is None else same, name


def trained(model: nn.Module, x: Any) -> torch.optim.Adam:
    """An optimizer with state, and a model with gradients."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    backward(model, x)
    optimizer.step()
    return optimizer


def check_growing_and_pruning(model: nn.Module, x: Any, tolerance: float = TOLERANCE) -> None:
    """Growing keeps the function; pruning the same units restores every bit; ids are new."""
    optimizer = trained(model, x)
    structure = structure_of(model, x)
    for name, group in distinct(structure).items():
        if not group.can_grow:
            continue
        before, function = everything(model, optimizer), outputs(model, x)
        edit = structure.apply(Plan(grow={name: 2}), followers=[optimizer])
        assert edit.born[name] == (group.next_id, group.next_id + 1)
        assert structure.groups[name].unit_ids == (*group.unit_ids, *edit.born[name])
        if (
            not any(isinstance(m, nn.Dropout) and m.p for m in model.modules())
            or not model.training
        ):
            assert change(model, x, function) <= tolerance, name
        if group.can_shrink:
            structure.apply(Plan(prune=edit.born), followers=[optimizer])
            check_same(everything(model, optimizer), before)
            assert structure.groups[name].unit_ids == group.unit_ids
            assert structure.groups[name].next_id == group.next_id + 2
    for name, group in distinct(structure).items():
        if group.can_shrink and group.width > 1:
            structure.apply(Plan(prune={name: group.unit_ids[:1]}), followers=[optimizer])


def check_fresh_units_learn(model: nn.Module, x: Any) -> None:
    """Some column that reads fresh units gets a gradient at once.

    Units that pass norms over all channels are zero behind them: their rows get it at once, and
    columns when the rows have moved.
    """
    model.train()
    structure = structure_of(model, x)
    for name, group in distinct(structure).items():
        if not group.can_grow:
            continue
        structure.apply(Plan(grow={name: 3}))
        grown = structure.groups[name]
        if grown.residual:
            assert (fresh_gradients(model, x, grown, "out") > 0).all(), name
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 1e-2 * parameter.grad
        assert fresh_gradients(model, x, grown, "in").max() > 0, name


def fresh_gradients(model: nn.Module, x: Any, group: UnitGroup, role: Role) -> Tensor:
    """[3] the largest gradient of the last three units' weights of one role."""
    model.zero_grad()
    backward(model, x)
    found = [
        place.tensor.grad.movedim(place.axis.dim, 0)[place.positions[-3:]].abs().flatten(1)
        for place in placements(model, group, [role])
        if place.tensor.grad is not None
    ]
    return torch.cat(found, 1).amax(1)


def check_random_plans(model: nn.Module, x: Any, plans: int, seed: int = 0) -> None:
    """After many plans in a row a new analysis finds what the old one has kept up with."""
    drawn = random.Random(seed)
    optimizer = trained(model, x)
    structure = structure_of(model, x)
    widths = {name: group.width for name, group in structure.groups.items()}
    seen = {name: set(group.unit_ids) for name, group in structure.groups.items()}
    alive: list[int] = []
    for number in range(plans):
        if number in (plans // 2, plans - 1):
            alive.append(tensors_alive())
        prune: dict[str, list[int]] = {}
        grow: dict[str, int] = {}
        for name in drawn.sample(sorted(widths), k=min(2, len(widths))):
            group = structure.groups[name]
            spare = max(0, group.width - 2) if group.can_shrink else 0
            prune[name] = drawn.sample(group.unit_ids, k=drawn.randint(0, min(spare, 3)))
            room = max(0, widths[name] + 2 - group.width + len(prune[name]))
            grow[name] = drawn.randint(0, min(room, 3)) if group.can_grow else 0
        edit = structure.apply(Plan(prune=prune, grow=grow), followers=[optimizer])
        for name, ids in edit.born.items():
            assert not seen[name] & set(ids)
            seen[name] |= set(ids)
    assert alive[-1] <= alive[0] + 50, "tensors leak"  # an edit holds some by chance more
    assert set(optimizer.state) == {p for p in model.parameters() if p.requires_grad}
    assert [p for g in optimizer.param_groups for p in g["params"]] == list(model.parameters())
    assert units(structure_of(model, x)) == units(structure)
    trained(model, x)


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())


def units(structure: Structure) -> dict[str, Any]:
    """Group -> its units, each as the positions it holds on every side."""
    return {
        name: {
            tuple((m.layer, m.side, tuple(sorted(m.positions[i].tolist()))) for m in group.members)
            for i in range(group.width)
        }
        for name, group in structure.groups.items()
    }
