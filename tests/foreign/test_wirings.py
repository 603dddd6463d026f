"""Foreign wirings: found, grown without a change, pruned back bit for bit, trained a step."""

import copy

import pytest
import torch
from attention import NETWORKS as ATTENTION
from constants import NETWORKS as CONSTANTS
from rearranged import NETWORKS as REARRANGED
from responses import NETWORKS as RESPONSES
from single_heads import NETWORKS as SINGLE_HEADS
from subclasses import NETWORKS as SUBCLASSES
from tied_widths import NETWORKS as TIED_WIDTHS
from torch import nn
from wirings import NETWORKS as WIRINGS

from growmas import Plan, Structure

NETWORKS = {
    **WIRINGS,
    **ATTENTION,
    **TIED_WIDTHS,
    **CONSTANTS,
    **RESPONSES,
    **SINGLE_HEADS,
    **SUBCLASSES,
    **REARRANGED,
}
by_name = pytest.mark.parametrize("name", NETWORKS)


def example(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    build, shape, _ = NETWORKS[name]
    return build().eval(), torch.randn(shape), torch.randn(shape)


@by_name
def test_the_groups_are_found(name: str) -> None:
    model, x, _ = example(name)
    found = Structure(model, x).groups.values()
    assert {g.name: f"{g.width} {g.kind}, {g.abilities}" for g in found} == NETWORKS[name][2]


@by_name
def test_what_is_listed_passes_the_check(name: str) -> None:
    model, x, _ = example(name)
    before = copy.deepcopy(model.state_dict())
    structure = Structure(model, x, check=True)
    found = {g.name: f"{g.width} {g.kind}, {g.abilities}" for g in structure.groups.values()}
    assert found == NETWORKS[name][2]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@by_name
def test_growing_keeps_the_function_and_pruning_restores_all(name: str) -> None:
    model, x, other = example(name)
    structure = Structure(model, x)
    for group in list(structure.groups.values()):
        if not group.can_grow:
            continue
        before, function = copy.deepcopy(model.state_dict()), model(other)
        edit = structure.apply(Plan(grow={group.name: 3}))
        torch.testing.assert_close(model(other), function, rtol=1e-4, atol=1e-5)
        if group.can_shrink:
            structure.apply(Plan(prune=edit.born))
            after = model.state_dict()
            assert all(torch.equal(value, after[key]) for key, value in before.items())


@by_name
def test_pruned_and_grown_it_can_be_trained(name: str) -> None:
    model, x, other = example(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    structure = Structure(model, x)
    for group in list(structure.groups.values()):
        if group.can_grow:
            structure.apply(Plan(grow={group.name: 2}), followers=[optimizer])
        ids = group.unit_ids[:1]
        structure.apply(Plan(prune={group.name: ids}, approximate=True), followers=[optimizer])
    model(other).square().mean().backward()
    optimizer.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    units = {name: g.width for name, g in Structure(model, x).groups.items()}
    assert units == {name: g.width for name, g in structure.groups.items()}
