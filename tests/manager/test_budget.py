"""Laws of a budget: it is never exceeded, and a plan that fits stays as it is."""

import pytest
import snapshots
import torch
from cases import CONCAT, CONVNET, MLP, RESIDUAL_CONV
from hypothesis import given, settings, strategies as st
from scenes import managed, network

import growmas as gm
from growmas.errors import PlanError
from growmas.manager import shared_out
from growmas.manager.allocation import proportional
from growmas.manager.plans import merged

few = settings(max_examples=25, deadline=None, derandomize=True)


@few
@given(st.data())
def test_no_plan_exceeds_it_and_no_larger_share_would_fit(data):
    net = network()
    structure = gm.Structure(net, torch.randn(4, 6))
    before = snapshots.of_model(net)
    counts = st.dictionaries(st.sampled_from(["0", "2"]), st.integers(0, 40))
    plan = gm.Plan(
        grow=data.draw(counts),
        prune=data.draw(st.sampled_from([{}, {"0": [1, 4]}, {"2": [0, 1, 2]}])),
        replace=data.draw(st.sampled_from([{}, {"0": [7]}])),
        reason="drawn",
    )
    planned = gm.Plan(grow=data.draw(counts))
    now = structure.cost(planned)
    budget = gm.Budget(
        parameters=now.parameters + data.draw(st.integers(0, 900)),
        units=data.draw(st.none() | st.integers(now.units, now.units + 40)),
        flops=data.draw(st.none() | st.integers(now.flops, now.flops + 5000)),
    )
    left = budget.trim(structure, plan, planned)
    assert snapshots.of_model(net) == before
    after = structure.cost(merged(planned, left))
    assert not budget.excess(after)
    assert (left.prune, left.replace) == (plan.prune, plan.replace)
    assert all(0 < left.grow[name] <= plan.grow[name] for name in left.grow if left is not plan)
    if not budget.excess(structure.cost(merged(planned, plan))):
        assert left is plan
    else:
        one_more = {
            name: min(count, left.grow.get(name, 0) + 1) for name, count in plan.grow.items()
        }
        larger = merged(planned, gm.Plan(prune=plan.prune, replace=plan.replace, grow=one_more))
        assert budget.excess(structure.cost(larger))


@few
@given(st.integers(0, 30), st.integers(0, 2000), st.sampled_from([2, 5]))
def test_a_managed_network_stays_within_it(units, room, tasks):
    manager, structure, *_, x = managed(
        grow=[gm.GrowPolicy(units), gm.OvergrowSelect(3)],
        prune=gm.PrunePolicy(0.1),
        budget=gm.Budget(parameters=185 + room),
    )
    for task in range(tasks):
        manager.begin_task(f"{task}")
        assert structure.parameters <= 185 + room
        manager.end_task([x])


@pytest.mark.parametrize("case", [MLP, CONVNET, RESIDUAL_CONV, CONCAT], ids=lambda case: case.name)
def test_cost_is_what_the_network_then_has(case):
    model, example = case.model(), case.inputs(4)
    structure = gm.Structure(model, example)
    plan = gm.Plan(grow=dict.fromkeys(structure.groups, 2))
    told, explained = structure.cost(plan), structure.explain(plan)
    structure.apply(plan)
    assert told == structure.cost()
    assert told.parameters == structure.parameters
    assert told.units == sum(group.width for group in structure.groups.values())
    assert (told.parameters, told.flops) == (explained.parameters[1], explained.flops[1])


def test_a_budget_smaller_than_the_network_is_refused_with_both_numbers():
    with pytest.raises(PlanError, match="100 parameters where the network has 185"):
        managed(budget=gm.Budget(parameters=100))


def test_without_limits_nothing_is_measured():
    structure = gm.Structure(network(), torch.randn(4, 6))
    plan = gm.Plan(grow={"0": 1000})
    assert gm.Budget().trim(structure, plan) is plan
    assert not gm.Budget()


@few
@given(
    st.integers(0, 50),
    st.dictionaries(st.text(max_size=3), st.floats(0, 1e6, allow_subnormal=False), min_size=1),
)
def test_units_shared_out_add_up_and_keep_the_proportion(total, weights):
    counts = proportional(total, weights)
    whole = sum(weights.values())
    if whole == 0:
        assert set(counts.values()) == {0}
        return
    assert sum(counts.values()) == total
    for name, weight in weights.items():
        assert abs(counts[name] - total * weight / whole) < 1 + 1e-6


def test_shares():
    structure = gm.Structure(network(), torch.randn(4, 6))
    groups = tuple(structure.groups.values())
    assert shared_out(structure, groups, 6, "even") == {"0": 3, "2": 3}
    assert shared_out(structure, groups, 9, "width") == {"0": 5, "2": 4}
    # one unit more of "0" costs 6 + 1 + 8 parameters, of "2" 10 + 1 + 3
    assert shared_out(structure, groups, 29, "parameters") == {"0": 14, "2": 15}
    assert shared_out(structure, groups, 27, "flops") == {"0": 13, "2": 14}
