"""Saving and loading, and anything else that is shaped like a parameter."""

import copy
import json
from typing import Any

import pytest
import snapshots
import torch
from cases import CONVNET, MLP, SURGERY, Case, tensors
from torch import Tensor, nn

from growmas import Plan, Structure
from growmas.errors import SurgeryError

by_name = pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)


def edited(case: Case) -> Structure:
    structure = Structure(case.model(), case.inputs(3))
    structure.begin_task("a")
    structure.apply(
        Plan(prune={n: [1] for n in structure.groups}, grow=dict.fromkeys(structure.groups, 3))
    )
    structure.begin_task("b")
    structure.apply(Plan(prune={n: g.unit_ids[-1:] for n, g in structure.groups.items()}))
    return structure


def plain(value: Any) -> Any:
    """JSON values with tensors as lists."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


@by_name
def test_state_goes_round_into_a_fresh_model(case: Case) -> None:
    structure = edited(case)
    state = copy.deepcopy(structure.state_dict())
    weights = copy.deepcopy(structure.model.state_dict())
    fresh = Structure(case.model(seed=5), case.inputs(3))
    old = dict(fresh.model.named_parameters())
    swapped = fresh.load_state_dict(state)
    fresh.model.load_state_dict(weights)
    assert snapshots.of_groups(fresh) == snapshots.of_groups(structure)
    assert fresh.tasks == structure.tasks
    assert fresh.task == 1
    assert fresh.layers() == structure.layers()
    assert snapshots.values(fresh.model.state_dict()) == snapshots.values(weights)
    new = dict(fresh.model.named_parameters())
    assert all(swapped.get(old[name], old[name]) is new[name] for name in new)
    x = case.inputs(4)
    for a, b in zip(
        tensors(fresh.model.eval()(x)), tensors(structure.model.eval()(x)), strict=True
    ):
        assert torch.equal(a, b)


@by_name
def test_a_loaded_structure_goes_on_as_the_saved_one(case: Case) -> None:
    structure = edited(case)
    fresh = Structure(case.model(), case.inputs(3))
    fresh.load_state_dict(structure.state_dict())
    fresh.model.load_state_dict(structure.model.state_dict())
    for each in (structure, fresh):
        each.apply(
            Plan(
                prune={n: g.unit_ids[:1] for n, g in each.groups.items()},
                grow=dict.fromkeys(each.groups, 2),
            ),
            generator=torch.Generator().manual_seed(0),
        )
    assert snapshots.of_groups(fresh) == snapshots.of_groups(structure)
    assert snapshots.values(fresh.model.state_dict()) == snapshots.values(
        structure.model.state_dict()
    )


def test_a_state_is_tensors_and_json_values() -> None:
    state = edited(CONVNET).state_dict()
    assert json.loads(json.dumps(plain(state))) == plain(state)


def test_a_state_that_was_given_out_does_not_change_later() -> None:
    structure = edited(MLP)
    state = structure.state_dict()
    kept = copy.deepcopy(state)
    structure.begin_task("c")
    structure.apply(Plan(grow={"0": 1}))
    assert plain(state) == plain(kept)


def test_a_state_of_another_architecture_is_refused() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    before, groups = snapshots.of_model(structure.model), snapshots.of_groups(structure)
    with pytest.raises(SurgeryError, match=r"another architecture: groups .* differ"):
        structure.load_state_dict(edited(CONVNET).state_dict())
    assert snapshots.of_model(structure.model) == before
    assert snapshots.of_groups(structure) == groups


def test_loading_draws_no_random_numbers() -> None:
    """A run that goes on from a checkpoint must not depend on having been loaded."""
    state = edited(MLP).state_dict()
    fresh = Structure(MLP.model(), MLP.inputs(3))
    random_state = snapshots.of_random_state()
    fresh.load_state_dict(state)
    assert snapshots.of_random_state() == random_state


def test_reindex_does_to_any_tensor_what_was_done_to_the_parameter() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    mine = torch.arange(40.0).view(5, 8)
    edit = structure.apply(Plan(prune={"0": [0, 5]}, grow={"0": 1, "2": 2}))
    found = edit.reindex("2.weight", mine)
    kept = [1, 2, 3, 4, 6, 7]
    assert found.shape == (7, 7) == structure.model[2].weight.shape
    assert torch.equal(found[:5, :6], mine[:, kept])
    assert not found[5:].any()
    assert not found[:, 6:].any()
    filled = edit.reindex("2.weight", mine, fresh=-1.0)
    assert torch.equal(filled[:5, :6], mine[:, kept])
    assert (filled[5:] == -1).all()
    assert (filled[:, 6:] == -1).all()
    other = 100 + torch.arange(49.0).view(7, 7)
    mixed = edit.reindex("2.weight", mine, fresh=other)
    assert torch.equal(mixed[:5, :6], mine[:, kept])
    assert torch.equal(mixed[5:], other[5:])
    assert torch.equal(mixed[:, 6:], other[:, 6:])
    assert torch.equal(mine, torch.arange(40.0).view(5, 8))


def test_reindex_takes_any_type_and_leaves_untouched_names_alone() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    edit = structure.apply(Plan(grow={"0": 1}))
    for tensor in (torch.arange(8), torch.ones(8, dtype=torch.bool), torch.ones(8).half()):
        found = edit.reindex("0.bias", tensor)
        assert found.dtype == tensor.dtype
        assert torch.equal(found[:8], tensor)
        assert not found[8:].any()
    anything = torch.zeros(3)
    assert edit.reindex("4.bias", anything) is anything
    assert edit.reindex("no such name", anything) is anything


def test_reindex_keeps_channels_last() -> None:
    structure = Structure(CONVNET.model(), CONVNET.inputs(3))
    edit = structure.apply(Plan(grow={"0": 1}, prune={"4": [0]}))
    mine = torch.randn(4, 5, 2, 2).contiguous(memory_format=torch.channels_last)
    found = edit.reindex("4.weight", mine)
    assert found.shape == (3, 6, 2, 2)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found[:, :5], mine[1:])


def test_a_state_with_mistakes_changes_nothing() -> None:
    state = edited(MLP).state_dict()
    for spoil in (
        lambda s: s.pop("sizes"),
        lambda s: s.pop("tasks"),
        lambda s: s["groups"]["0"].pop("unit_ids"),
    ):
        broken = copy.deepcopy(state)
        spoil(broken)
        structure = Structure(MLP.model(), MLP.inputs(3))
        before, groups = snapshots.of_model(structure.model), snapshots.of_groups(structure)
        with pytest.raises((SurgeryError, KeyError)):
            structure.load_state_dict(broken)
        assert snapshots.of_model(structure.model) == before
        assert snapshots.of_groups(structure) == groups
        assert structure.tasks == ()


class _Cached(nn.Module):
    """Biases of heads that are kept in eval mode until the next training, as in LeViT."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.gains = nn.Parameter(torch.rand(2, 4))
        self.cache: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "_Cached":
        self.cache = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.b(self.a(x) * self.gains[1])
        if "gains" not in self.cache:
            self.cache["gains"] = self.gains[1]
        return self.b(self.a(x) * self.cache["gains"])


def test_caches_of_eval_mode_are_dropped_by_an_edit() -> None:
    model, x = _Cached().eval(), torch.rand(5, 3)
    structure = Structure(model, x)
    before = model(x).detach()  # fills the cache
    structure.apply(Plan(grow={"a": 2}))
    assert not model.training
    torch.testing.assert_close(model(x), before)
