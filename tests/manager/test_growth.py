import pytest
import torch
from scenes import managed
from torch import nn

import growmas as gm
from growmas.errors import PlanError


def begun_twice(**policies):
    manager, structure, *_, x = managed(**policies)
    manager.begin_task("a")
    manager.end_task([x])
    return manager.begin_task("b"), structure


def test_a_fraction_of_each_width():
    (edit,), _ = begun_twice(grow=gm.GrowPolicy(fraction=0.3))
    assert {name: len(units) for name, units in edit.born.items()} == {"0": 3, "2": 2}
    assert edit.reason == "GrowPolicy: fraction 0.3: 0 +3 of 10, 2 +2 of 8"


def test_a_small_fraction_is_one_unit_and_none_is_none():
    (edit,), _ = begun_twice(grow=gm.GrowPolicy(fraction={"0": 0.01, "2": 0.0}))
    assert edit.born == {"0": (10,)}


def test_protected_groups_get_none():
    (edit,), _ = begun_twice(grow=gm.GrowPolicy(2, protected="0"))
    assert edit.born == {"2": (8, 9)}


def stuck(structure, name, key):
    """Make a group one that cannot shrink, or cannot grow."""
    object.__setattr__(structure.groups[name], key, "because")


@pytest.mark.parametrize("key", ["no_shrink", "no_grow"])
def test_numbers_skip_groups_that_are_stuck_but_mappings_may_name_them(key):
    manager, structure, *_, x = managed(grow=[gm.GrowPolicy(2), gm.GrowPolicy(fraction=0.5)])
    stuck(structure, "0", key)
    manager.begin_task("a")
    manager.end_task([x])
    assert [set(edit.born) for edit in manager.begin_task("b")] == [{"2"}, {"2"}]
    manager, structure, *_, x = managed(grow=gm.GrowPolicy({"0": 2}))
    stuck(structure, "0", key)
    manager.begin_task("a")
    manager.end_task([x])
    if key == "no_shrink":
        assert [set(edit.born) for edit in manager.begin_task("b")] == [{"0"}]
    else:
        with pytest.raises(PlanError, match="'0' cannot grow: because"):
            manager.begin_task("b")


@pytest.mark.parametrize(
    "prune",
    [
        gm.PrunePolicy(0.5, grace=0),
        gm.PruneBelow(1.0, grace=0),
        gm.PruneWithin(100.0, grace=0),
    ],
)
def test_pruning_skips_groups_that_cannot_shrink_and_protected_ones(prune):
    manager, structure, *_, x = managed(prune=prune)
    stuck(structure, "0", "no_shrink")
    manager.begin_task("a")
    (edit,) = manager.end_task([x])
    assert set(edit.died) == {"2"}


def test_a_network_without_groups_is_left_alone():
    net, x = nn.Sequential(nn.Linear(3, 2)), torch.rand(4, 3)
    manager = gm.StructuralManager(
        gm.Structure(net, x),
        mas=gm.MAS(net),
        grow=[gm.GrowPolicy(2), gm.GrowBySaturation(), gm.OvergrowSelect(2), gm.ReplaceDead()],
        prune=[gm.PrunePolicy(0.5), gm.PruneBelow(0.5), gm.PruneWithin(0.5)],
    )
    for task in "ab":
        assert manager.begin_task(task) == ()
        assert manager.end_task([x]) == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gm.GrowPolicy(), "give one of the two"),
        (lambda: gm.GrowPolicy(2, fraction=0.1), "give one of the two"),
        (lambda: gm.GrowPolicy(-1), "units=-1: expected a whole number >= 0"),
        (lambda: gm.GrowPolicy(True), "units=True: expected a whole number"),
        (lambda: gm.GrowPolicy({"0": 1.5}), r"units\['0'\]=1.5: expected a whole number"),
        (lambda: gm.GrowPolicy(fraction=float("nan")), "fraction=nan: expected a finite number"),
        (lambda: gm.GrowPolicy(1, protected=(3,)), "protected=.*expected names of groups"),
        (lambda: gm.GrowByNeed(target="low"), "target='low': expected 'earlier' or a loss"),
        (lambda: gm.GrowByNeed(slack=0), "slack=0: expected"),
        (lambda: gm.GrowByNeed(step=0), "step=0: expected a whole number >= 1"),
        (lambda: gm.GrowByNeed(step=8, most=4), "most=4: expected a whole number >= step=8"),
        (lambda: gm.GrowByNeed(gain=1), "gain=1: expected 0 <= gain < 1"),
        (lambda: gm.GrowByNeed(share="fair"), "share='fair': expected one of 'even', 'width'"),
        (lambda: gm.GrowBySaturation(1.0), "threshold=1.0: expected 0 < threshold < 1"),
        (lambda: gm.GrowBySaturation({"0": 0}), r"threshold\['0'\]=0: expected 0 < threshold < 1"),
        (lambda: gm.GrowBySaturation(most=0), "most=0: expected a whole number >= 1"),
        (lambda: gm.GrowByGain(0), "threshold=0: expected a number > 0"),
        (lambda: gm.GrowByGain(per="watt"), "per='watt': expected one of 'parameters'"),
        (lambda: gm.OvergrowSelect(0), "keep=0: expected a whole number >= 1"),
        (lambda: gm.OvergrowSelect(2, factor=0.5), "factor=0.5: expected a number >= 1"),
        (lambda: gm.OvergrowSelect({"0": 2}, protected="0"), "keep and protected both name '0'"),
        (lambda: gm.PrunePolicy(1), "ratio=1: expected 0 <= ratio < 1"),
        (lambda: gm.PrunePolicy(0.1, criterion="size"), "criterion='size': expected one of"),
        (lambda: gm.PrunePolicy(0.1, grace=-1), "grace=-1: expected a whole number >= 0"),
        (lambda: gm.PruneBelow(1.2), "threshold=1.2: expected 0 < threshold <= 1"),
        (lambda: gm.PruneWithin(-0.1), "bound=-0.1: expected a finite number >= 0"),
        (lambda: gm.PruneWithin(0.1, most=1), "most=1: expected 0 < most < 1"),
        (lambda: gm.PruneWithin(0.1, measure="loss"), "measure='loss': expected one of 'output'"),
        (lambda: gm.ReplaceDead(1), "below=1: expected 0 <= below < 1"),
        (lambda: gm.Budget(parameters=0), "Budget parameters=0: expected a whole number >= 1"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(PlanError, match=message):
        make()


def test_what_replaces_dead_units_is_no_surplus():
    manager, structure, *_, x = managed(grow=[gm.ReplaceDead(), gm.OvergrowSelect(2, factor=2)])
    with torch.no_grad():
        structure.model[0].bias[:4] = -100.0
    manager.begin_task("a")
    manager.end_task([x])
    replaced, _ = manager.begin_task("b")
    substitutes = set(replaced.born["0"])
    assert len(substitutes) == 4
    assert structure.groups["0"].width == 10 + 4
    state = manager.state_dict()
    manager.load_state_dict({k: v for k, v in state.items() if k != "substitutes"})
    manager.load_state_dict(state)
    manager.end_task([x])
    assert structure.groups["0"].width == 10 + 2, "the four keep the places that they took"
    assert substitutes <= set(structure.groups["0"].unit_ids)
