"""The bounds and the ties of every policy, each of which a wrong comparison would move."""

from dataclasses import replace

import pytest
import torch
from scenes import inputs, managed

import growmas as gm
from growmas.manager import Gains, Policy, Situation
from growmas.manager.allocation import proportional
from growmas.manager.contrib.gain import _best
from growmas.manager.progress import Progress


def situation(moment="end", *, saliency=None, births=None, tasks=("a",), **options):
    """A situation in which the units of group "0" have these saliencies, by the sum of Ω."""
    _, structure, mas, _, x = managed()
    for task in tasks:
        structure.begin_task(task)
    mas.consolidate([x])
    mas.omega = {name: torch.zeros_like(omega) for name, omega in mas.omega.items()}
    if saliency is not None:
        mas.omega["2.weight"][0] = torch.tensor(saliency)  # what reads the units of "0"
    for name, group in structure.groups.items():
        if births is not None and name == "0":
            object.__setattr__(group, "births", births)
    now = len(tasks) - 1 if moment != "begin" else len(tasks)
    ages = {n: tuple(now - born for born in g.births) for n, g in structure.groups.items()}
    return Situation(moment, structure, mas, ages, **options)


ALIKE = [1.0] * 10


def test_a_saliency_that_equals_the_limit_is_not_below_it():
    policy = gm.PruneBelow(1.0, criterion="sum", grace=0, protected="2")
    assert not policy.propose(situation(saliency=ALIKE))
    lower = policy.propose(situation(saliency=[0.5, *ALIKE[1:]]))
    assert lower.prune == {"0": (0,)}


def test_a_ratio_is_rounded_down():
    for ratio, gone in ((0.19, 1), (0.2, 2), (0.29, 2)):
        policy = gm.PrunePolicy(ratio, criterion="sum", grace=0, protected="2")
        assert len(policy.propose(situation(saliency=ALIKE)).prune["0"]) == gone


def test_units_of_equal_saliency_go_in_order_and_the_last_stays():
    policy = gm.PrunePolicy(0.9, criterion="sum", grace=0, protected="2")
    assert policy.propose(situation(saliency=ALIKE)).prune == {"0": tuple(range(9))}


def test_the_unit_that_stays_is_of_the_oldest_ones():
    policy = gm.PrunePolicy(0.9, criterion="sum", grace=0, protected="2")
    younger = situation(saliency=[0.1, 0.2, *[1.0] * 8], births=(0, 0, *[1] * 8), tasks=("a", "b"))
    assert policy.propose(younger).prune == {"0": (0, *range(2, 10))}


@pytest.mark.parametrize(("grace", "gone"), [(1, (0,)), (2, None)])
def test_a_unit_as_old_as_its_grace_may_go(grace, gone):
    policy = gm.PrunePolicy(0.1, criterion="sum", grace=grace, protected="2")
    old = situation(saliency=ALIKE, births=(0, *[1] * 9), tasks=("a", "b"))
    # unit 0 is the only one of its time and stays
    assert not policy.propose(old)
    two = situation(saliency=ALIKE, births=(0, 0, *[1] * 8), tasks=("a", "b"))
    assert policy.propose(two).prune.get("0") == gone


def test_a_unit_is_dead_at_the_limit_too():
    policy = gm.ReplaceDead(0.5, grace=0, protected="2")
    # a mean of 1: five units are at half of it, one of them is kept as the last of its time
    at = situation("begin", saliency=[0.5] * 5 + [1.5] * 5)
    assert policy.propose(at).replace == {"0": (0, 1, 2, 3, 4)}


def test_of_newborn_units_with_equal_saliency_the_first_stay():
    policy = gm.OvergrowSelect({"0": 2}, criterion="sum")
    born = situation(saliency=ALIKE, births=(*[0] * 5, *[1] * 5), tasks=("a", "b"))
    assert policy.propose(born).prune == {"0": (7, 8, 9)}
    assert not gm.OvergrowSelect({"0": 5}, criterion="sum").propose(born)
    first = situation(saliency=ALIKE)
    assert not policy.propose(first), "the units of the first task are no surplus"


def test_a_cost_that_equals_the_bound_is_within_it():
    policy = gm.PruneWithin(0.0, measure="metrics", criterion="sum", grace=0, protected="2")
    here = situation(saliency=ALIKE, metrics={"same": lambda model: 1.0})
    assert len(policy.propose(here).prune["0"]) == 5
    worse = {"worse": lambda model: float(model[0].out_features == 10)}
    assert not policy.propose(situation(saliency=ALIKE, metrics=worse))


def test_the_cost_includes_what_is_planned_already():
    metrics = {"wide": lambda model: float(model[0].out_features >= 9)}
    policy = gm.PruneWithin(0.0, measure="metrics", criterion="sum", grace=0, protected="2")
    here = situation(saliency=ALIKE, metrics=metrics)
    assert policy.propose(here).prune == {"0": (0,)}
    assert not policy.propose(replace(here, planned=gm.Plan(prune={"0": [9]})))


def test_saliencies_of_groups_of_different_scale_are_ranked_by_share_of_the_mean():
    here = situation(saliency=[1000.0, 10.0, *[1000.0] * 8])
    weight = here.mas.omega["4.weight"]
    weight[0] = torch.tensor([1.0, 0.9, *[1.0] * 6])
    one = {"same": lambda model: float(sum(p.numel() for p in model.parameters()) > 165)}
    policy = gm.PruneWithin(0.0, measure="metrics", criterion="sum", grace=0)
    plan = policy.propose(Situation("end", here.structure, here.mas, here.ages, metrics=one))
    # 15 parameters go with a unit of "0", so that one unit goes: the one at 0.01 of its mean
    assert plan.prune == {"0": (1,)}


def test_remainders_are_given_to_the_largest_and_of_equal_ones_to_the_first():
    assert proportional(3, {"a": 0.4, "b": 2.6}) == {"a": 0, "b": 3}
    assert proportional(3, {"a": 2.0, "b": 1.0}) == {"a": 2, "b": 1}
    assert proportional(1, {"a": 1.0, "b": 1.0}) == {"a": 1, "b": 0}


@pytest.mark.parametrize("target", [0.5, 0.51])
def test_a_trial_that_equals_the_target_ends_the_search(target):
    def trial(model, mas):
        return {10: 1.0, 12: 0.5}.get(model[0].out_features, 0.25)

    here = situation("begin", trial=trial)
    plan = gm.GrowByNeed(target, step=2, most=8, protected="2").propose(here)
    assert plan.grow == {"0": 2}


def test_a_gain_as_small_as_the_share_ends_the_search():
    def trial(model, mas):
        return {10: 1.0, 12: 0.5, 14: 0.25}.get(model[0].out_features, 0.0)

    here = situation("begin", trial=trial)
    policy = gm.GrowByNeed(0.0, gain=0.5, step=2, most=8, protected="2")
    assert policy.propose(here).grow == {}, "half is not better by more than half"
    policy = gm.GrowByNeed(0.0, gain=0.49, step=2, most=8, protected="2")
    assert policy.propose(here).grow == {"0": 8}


def test_candidates_are_compared_by_gain_for_their_cost():
    gains = {"a": Gains(torch.tensor([4.0]), 1.0), "b": Gains(torch.tensor([5.0, 1.0]), 1.0)}
    assert _best(gains, {"a": 1, "b": 2}, 0.1, 1) == {"a": 1}
    assert _best(gains, {"a": 2, "b": 1}, 0.1, 1) == {"b": 1}
    assert _best(gains, {"a": 1, "b": 1}, 1.0, 9) == {"a": 1, "b": 2}, "at the threshold"
    assert _best(gains, {"a": 1, "b": 1}, 1.01, 9) == {"a": 1, "b": 1}
    equal = {name: Gains(torch.tensor([2.0]), 1.0) for name in ("b", "a")}
    assert _best(equal, {"a": 1, "b": 1}, 1.0, 1) == {"a": 1}, "of equal gains by name"


def test_progress_forgets_the_units_that_are_gone():
    _, structure, *_ = managed()
    progress = Progress(open=False)
    progress.steps = 3
    progress.follow(structure.apply(gm.Plan(grow={"0": 2}, replace={"0": [0]})))
    assert progress.births == {"0": {10: 3, 11: 3, 12: 3}}
    assert progress.substitutes == {"0": frozenset({12})}
    assert progress.ages(structure, None)["0"][-3:] == (0, 0, 0)
    progress.steps = 5
    assert progress.ages(structure, None)["0"][-4:] == (5, 2, 2, 2)
    progress.follow(structure.apply(gm.Plan(prune={"0": [12, 10]})))
    assert progress.births == {"0": {11: 3}}
    assert progress.substitutes == {"0": frozenset()}


class Prunes(Policy):
    moments = ("end",)

    def __init__(self, group, *, reconstruct):
        self.group, self.reconstruct = group, reconstruct

    def propose(self, situation):
        return gm.Plan(prune={self.group: [0]})


def test_each_policy_decides_whether_its_own_units_are_reconstructed():
    for first in (True, False):
        policies = [Prunes("0", reconstruct=first), Prunes("2", reconstruct=not first)]
        manager, *_, x = managed(prune=policies)
        assert manager.statistics is not None
        manager.begin_task("a")
        edits = manager.end_task([x])
        assert [bool(edit.corrections) for edit in edits] == [first, not first]


def test_a_step_within_a_task_teaches_nothing_and_one_without_tasks_does():
    manager, *_, x = managed(prune=gm.PrunePolicy(0.1))
    manager.step([x])
    assert manager.statistics.moments["2"].count == 32
    manager.begin_task("a")
    manager.step([inputs(8)])
    assert manager.statistics.moments["2"].count == 32
    manager.end_task([x])
    assert manager.statistics.moments["2"].count == 64


@pytest.mark.parametrize(
    ("norms", "kept"),
    [
        ("statistics", {"running_mean", "running_var"}),
        ("affine", {"running_mean", "running_var", "weight", "bias"}),
        (None, None),
    ],
)
def test_the_part_of_norms_that_is_stored(norms, kept):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )
    manager = gm.StructuralManager(gm.Structure(net, inputs()), mas=gm.MAS(net), norms=norms)
    manager.begin_task("a")
    manager.end_task([inputs()])
    stored = manager.structure.norms.get("a")
    assert (stored and {name.rpartition(".")[2] for name in stored}) == kept
