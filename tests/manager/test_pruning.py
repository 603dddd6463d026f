import pytest
import torch
from hypothesis import given, settings, strategies as st
from scenes import managed

import growmas as gm
from growmas.errors import PlanError

few = settings(max_examples=20, deadline=None, derandomize=True)


def learnt(prune, grow=gm.GrowPolicy(3), tasks=3):
    """A manager before the end of its last task."""
    manager, structure, mas, _, x = managed(grow=grow, prune=prune)
    for task in range(tasks):
        if task:
            manager.end_task([x])
        manager.begin_task(f"{task}")
    return manager, structure, mas, x


POLICIES = st.one_of(
    st.builds(gm.PrunePolicy, ratio=st.floats(0, 0.99), grace=st.integers(0, 3)),
    st.builds(gm.PruneByRedundancy, ratio=st.floats(0, 0.99), grace=st.integers(0, 3)),
    st.builds(gm.PruneBelow, threshold=st.floats(0.01, 1), grace=st.integers(0, 3)),
    st.builds(
        gm.PruneWithin, bound=st.floats(0, 2), grace=st.integers(0, 3), most=st.floats(0.1, 0.9)
    ),
)


@few
@given(POLICIES, st.booleans())
def test_grace_is_respected_and_a_unit_is_left(policy, protect):
    if protect:
        object.__setattr__(policy, "protected", ("0",))
    manager, structure, _, x = learnt(policy)
    births = {
        name: dict(zip(group.unit_ids, group.births, strict=True))
        for name, group in structure.groups.items()
    }
    for edit in manager.end_task([x]):
        for name, units in edit.died.items():
            assert all(births[name][unit] + policy.grace <= 2 for unit in units)
            assert name not in policy.protected
    assert all(group.width >= 1 for group in structure.groups.values())


@few
@given(st.floats(0.01, 1), st.sampled_from(["penalty", "sum", "taylor"]))
def test_below_a_threshold_all_go_and_above_it_none(threshold, criterion):
    policy = gm.PruneBelow(threshold, criterion=criterion, grace=0)
    manager, structure, mas, x = learnt(policy)
    (plan,) = manager.propose("end", [x]) or (gm.Plan(),)
    omega = gm.mas_importance(structure.model, [x])
    saliency = structure.saliency(
        {n: o + mas.omega[n] for n, o in omega.items()}, criterion=criterion
    )
    for name, values in saliency.items():
        limit = threshold * float(values.mean())
        low = [
            unit
            for unit, value in zip(structure.groups[name].unit_ids, values.tolist(), strict=True)
            if value < limit
        ]
        assert list(plan.prune.get(name, ())) == low


@pytest.mark.parametrize(
    ("round_to", "widths"), [(4, (16, 16)), ({"0": 5}, (15, 14)), (1, (14, 14))]
)
def test_widths_stay_multiples_and_the_most_salient_units_stay(round_to, widths):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 20), torch.nn.ReLU(), torch.nn.Linear(20, 20), torch.nn.ReLU(),
        torch.nn.Linear(20, 2),
    )  # fmt: skip
    x = torch.randn(40, 4)
    structure, mas = gm.Structure(net, x), gm.MAS(net)
    policy = gm.PrunePolicy(0.3, round_to=round_to, grace=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    manager = gm.StructuralManager(structure, mas=mas, optimizer=optimizer, prune=policy)
    manager.begin_task("a")
    manager.end_task([x])
    assert (structure.groups["0"].width, structure.groups["2"].width) == widths


@pytest.mark.parametrize("round_to", [0, 2.5, "8", {"0": -1}])
def test_a_multiple_is_a_whole_number(round_to):
    with pytest.raises(PlanError, match="round_to="):
        gm.PrunePolicy(0.3, round_to=round_to)


def test_a_threshold_has_no_scale():
    manager, _, mas, x = learnt(gm.PruneBelow(0.7, grace=0))
    mas.consolidate([x])
    situations = []
    for factor in (1.0, 1e-6):
        mas.decay(factor)
        situations.append([plan.prune for plan in manager.propose("step")])
    assert situations[0] == situations[1] != []


def test_nothing_is_pruned_where_importance_is_zero_everywhere():
    manager, _, mas, _ = learnt(gm.PruneBelow(1.0, grace=0))
    mas.omega = {name: torch.zeros_like(omega) for name, omega in mas.omega.items()}
    assert [plan.prune for plan in manager.propose("step")] == [{}]


def test_reasons_say_where_the_line_was_drawn():
    manager, *_, x = learnt(gm.PrunePolicy(0.2))
    (edit,) = manager.end_task([x])
    assert edit.reason.startswith(
        "PrunePolicy: least 20% of a group by penalty saliency: 0 up to 0."
    )
    assert edit.reason.endswith("of the mean")


def test_a_reason_says_when_what_went_had_no_importance():
    manager, _, mas, x = learnt(gm.PrunePolicy(0.2, grace=0, reconstruct=False), tasks=1)
    mas.consolidate([x])
    mas.omega["2.weight"][:, [2, 5]] = 0.0  # what reads two of the ten units of "0"
    mas.omega["4.weight"] += 1.0  # no unit of "2" is without
    plan = next(plan for plan in manager.propose("step") if plan.prune)
    assert plan.prune["0"] == (2, 5)
    assert "saliency: 0 without importance, 2 up to 0." in plan.reason


@pytest.mark.parametrize(("below", "grace"), [(0.0, 1), (0.2, 1), (0.0, 2)])
def test_dead_units_are_replaced_at_constant_width_before_the_next_task(below, grace):
    manager, structure, mas, _, x = managed(grow=gm.ReplaceDead(below, grace=grace))
    with torch.no_grad():
        structure.model[0].weight[[2, 5]] = 0.0
        structure.model[0].bias[[2, 5]] = -1.0
    manager.begin_task("a")
    manager.end_task([x])
    if grace > 1:
        assert manager.begin_task("too early") == ()
    expected = structure.model(x).detach()
    total = structure.saliency(mas.omega, criterion="sum", which="both")["0"]
    (edit,) = manager.begin_task("b")
    dead = (total <= below * total.mean()).nonzero().flatten().tolist()
    assert {2, 5} <= set(dead)
    assert edit.died["0"] == tuple(dead)
    assert structure.groups["0"].width == 10
    assert structure.groups["0"].births.count(structure.task) == len(dead)
    if not below:
        assert edit.reason.startswith("ReplaceDead: no importance: 0 2")
        torch.testing.assert_close(structure.model(x), expected)
    if grace > 1:
        assert manager.begin_task("c") == (), "the newborn have two tasks to become alive"


def test_the_best_of_the_newborn_stay():
    policy = gm.OvergrowSelect(2, factor=3)
    manager, structure, mas, x = learnt(None, grow=policy, tasks=2)
    assert structure.groups["0"].unit_ids[10:] == tuple(range(10, 16))
    old = structure.groups["0"].unit_ids[:10]
    with torch.no_grad():  # as training would
        for layer in (2, 4):
            structure.model[layer].weight += 0.1 * torch.randn_like(structure.model[layer].weight)
    omega = gm.mas_importance(structure.model, [x])
    saliency = structure.saliency({n: o + mas.omega[n] for n, o in omega.items()})["0"]
    best = saliency[10:].topk(2).indices + 10
    (edit,) = manager.end_task([x])
    assert structure.groups["0"].unit_ids == (*old, *sorted(best.tolist()))
    assert structure.groups["2"].width == 10
    assert edit.corrections, "reconstructed"
    assert "0 2 of 6 stay" in edit.reason
    manager.begin_task("c")
    assert structure.groups["0"].width == 18


def test_the_best_can_be_chosen_in_the_middle_of_a_task():
    policy = gm.OvergrowSelect({"0": 2}, factor=3)
    manager, _, mas, x = learnt(None, grow=policy, tasks=2)
    (edit,) = manager.step([x], only=policy)
    assert len(edit.died["0"]) == 4
    assert mas.tasks == 1
    assert manager.step([x]) == ()
    assert manager.end_task([x]) == ()


def test_nothing_is_selected_in_the_first_task_or_without_tasks():
    manager, *_, x = managed(grow=gm.OvergrowSelect(2))
    assert manager.step() == ()
    manager.begin_task("a")
    assert manager.step() == ()
    assert manager.end_task([x]) == ()


@few
@given(POLICIES, st.floats(0, 0.9))
def test_every_old_view_keeps_a_unit_of_its_time(policy, below):
    """With a grace period newborns alone fill the quota of units that are left."""
    manager, structure, _, x = learnt(policy, grow=[gm.ReplaceDead(below), gm.GrowPolicy(9)])
    for task in "xy":
        manager.end_task([x])
        manager.begin_task(task)
    for task in structure.tasks:
        small = structure.extract(task)  # refused where a group has no unit of the task's time
        with structure.view(task), torch.no_grad():
            torch.testing.assert_close(small(x), structure.model(x), atol=1e-5, rtol=1e-5)


def test_redundancy_is_chosen_by_statistics_and_guarded_by_importance():
    policy = gm.PruneByRedundancy(0.5, grace=0)
    manager, structure, mas, x = learnt(policy, grow=None, tasks=1)
    (edit,) = manager.end_task([x])
    assert edit.cause["policy"] == "PruneByRedundancy"
    assert set(edit.cause["predicted_error"]) == set(edit.died)
    assert {n: len(d) for n, d in edit.died.items()} == {"0": 5, "2": 4}
    assert edit.corrections
    manager, structure, mas, x = learnt(gm.PruneByRedundancy(0.5, grace=0, guard=0.9), None, 1)
    mas.consolidate([x])
    saliency = structure.saliency(mas.omega)
    best = {n: structure.groups[n].unit_ids[int(v.argmax())] for n, v in saliency.items()}
    for edit in manager.end_task([x]):
        assert all(best[name] not in units for name, units in edit.died.items())
    for setting in ({"ratio": 1.0}, {"ratio": 0.5, "guard": 1.0}, {"ratio": 0.5, "weight": -1}):
        with pytest.raises(gm.errors.PlanError):
            gm.PruneByRedundancy(**setting)
