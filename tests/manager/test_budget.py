"""Laws of a budget: it is never exceeded, and a plan that fits stays as it is."""

import pytest
import snapshots
import torch
from cases import CONCAT, CONVNET, MLP, RESIDUAL_CONV, SURGERY
from hypothesis import given, settings, strategies as st
from scenes import managed, network
from torch import nn

import growmas as gm
from growmas.errors import PlanError
from growmas.manager import allocate
from growmas.manager.allocation import proportional
from growmas.manager.plans import merged
from growmas.manager.size import size_after

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
def test_allocated_units_add_up_and_keep_the_proportion(total, weights):
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
    assert allocate(structure, groups, 6, "even") == {"0": 3, "2": 3}
    assert allocate(structure, groups, 9, "width") == {"0": 5, "2": 4}
    # one unit more of "0" costs 6 + 1 + 8 parameters, of "2" 10 + 1 + 3
    assert allocate(structure, groups, 29, "parameters") == {"0": 14, "2": 15}
    assert allocate(structure, groups, 27, "flops") == {"0": 13, "2": 14}


@pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)
@pytest.mark.parametrize("replace", [False, True])
def test_the_size_counted_from_shapes_is_the_size_of_the_changed_network(case, replace):
    structure = gm.Structure(case.model(), case.inputs(4))
    groups = structure.groups.values()
    grow = {group.name: 3 for group in groups if group.can_grow}
    prune = {group.name: group.unit_ids[:1] for group in groups if group.can_shrink}
    swap = {n: structure.groups[n].unit_ids[-1:] for n in grow if n in prune} if replace else {}
    for plan in (gm.Plan(), gm.Plan(grow=grow), gm.Plan(grow=grow, prune=prune, replace=swap)):
        cost = structure.cost(plan)
        assert size_after(structure, plan) == (cost.parameters, cost.units)


def test_without_a_limit_on_flops_the_model_is_neither_copied_nor_run():
    class Guarded(nn.Linear):
        closed = False

        def __deepcopy__(self, memo):
            raise AssertionError("copied")

        def forward(self, x):
            assert not self.closed, "run"
            return super().forward(x)

    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), Guarded(10, 3))
    rows, columns = gm.TensorAxis("weight", 0, "out"), gm.TensorAxis("weight", 1, "in")
    out, into = gm.Size("out_features"), gm.Size("in_features")
    axes = gm.LayerAxes((rows, gm.TensorAxis("bias", 0, "out")), (columns,), (out,), (into,))
    gm.register_layer(Guarded, axes)
    structure = gm.Structure(net, torch.randn(4, 6))
    Guarded.closed = True
    plan = gm.Plan(grow={"0": 8})
    assert gm.Budget(units=12).trim(structure, plan).grow == {"0": 2}
    assert gm.Budget(parameters=structure.parameters + 25).trim(structure, plan).grow == {"0": 2}
    gm.Budget(units=10, parameters=structure.parameters).check(structure)
    with pytest.raises(AssertionError, match="copied"):
        gm.Budget(flops=10**6).trim(structure, plan)


def test_a_limit_that_is_reached_exactly_is_kept():
    structure = gm.Structure(network(), torch.randn(4, 6))
    now, plan = structure.cost(), gm.Plan(grow={"0": 1})
    after = structure.cost(plan)
    for name in ("parameters", "flops", "units"):
        exact = gm.Budget(**{name: getattr(after, name)})
        assert exact.trim(structure, plan) is plan
        assert not gm.Budget(**{name: getattr(after, name) - 1}).trim(structure, plan).grow
        gm.Budget(**{name: getattr(now, name)}).check(structure)
        with pytest.raises(PlanError, match=f"{name} where the network has"):
            gm.Budget(**{name: getattr(now, name) - 1}).check(structure)


def test_a_budget_asked_about_something_else():
    structure = gm.Structure(network(), torch.randn(4, 6))
    with pytest.raises(PlanError, match="plan: expected Plan, got int"):
        gm.Budget(units=30).trim(structure, 5)
    with pytest.raises(PlanError, match="structure: expected Structure, got Sequential"):
        gm.Budget(units=30).trim(structure.model, gm.Plan(grow={"0": 1}))
    with pytest.raises(PlanError, match="nothere"):
        gm.Budget(units=30).trim(structure, gm.Plan(grow={"nothere": 1}))
