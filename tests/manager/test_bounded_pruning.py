import pytest
import torch
from hypothesis import given, settings, strategies as st
from scenes import everything, inputs, labels, managed, train
from torch import nn

import growmas as gm
from growmas.errors import PlanError

few = settings(max_examples=15, deadline=None, derandomize=True)


def learnt(policy):
    manager, structure, mas, optimizer, x = managed(prune=policy)
    manager.begin_task("a")
    train(structure.model, mas, (x, labels(x)), steps=30, optimizer=optimizer)
    return manager, structure, optimizer, x


@few
@given(st.floats(0, 1), st.booleans())
def test_the_change_of_the_output_is_within_the_bound_when_measured_again(bound, reconstruct):
    manager, structure, _, x = learnt(gm.PruneWithin(bound, grace=0, reconstruct=reconstruct))
    before = structure.model(x).detach()
    manager.end_task([x])
    after = structure.model(x).detach()
    assert float((after - before).abs().mean() / before.abs().mean()) <= bound * (1 + 1e-5)


def accuracies(x):
    def right(seed):
        return lambda model: float((model(x).argmax(1) == labels(x, seed)).float().mean())

    return {"a": right(0), "other": right(1)}


@few
@given(st.floats(0, 0.5))
def test_no_metric_drops_by_more_than_the_bound(bound):
    manager, structure, _, x = learnt(gm.PruneWithin(bound, measure="metrics", grace=0))
    metrics = accuracies(x)
    before = {name: metric(structure.model) for name, metric in metrics.items()}
    manager.end_task([x], metrics=metrics)
    for name, metric in metrics.items():
        assert before[name] - metric(structure.model) <= bound + 1e-6


def test_a_wider_bound_removes_more_and_a_boundless_one_the_most():
    gone = []
    for bound in (0.0, 0.05, 0.3, 1e9):
        manager, _, _, x = learnt(gm.PruneWithin(bound, grace=0, most=0.4))
        edits = manager.end_task([x])
        gone.append(sum(len(units) for edit in edits for units in edit.died.values()))
    assert gone == sorted(gone)
    assert gone[-1] == 4 + 3


def test_units_that_do_nothing_cost_nothing():
    manager, structure, _, x = learnt(gm.PruneWithin(1e-6, grace=0))
    with torch.no_grad():
        structure.model[2].weight[:, [3, 6]] = 0.0
    (edit,) = manager.end_task([x])
    assert {3, 6} <= set(edit.died["0"])


def test_the_bound_holds_for_everything_planned_on_the_occasion():
    within = gm.PruneWithin(1e-4, grace=0)
    manager, *_, x = learnt([gm.PrunePolicy(0.5, grace=0), within])
    reasons = [plan.reason for plan in manager.propose("end", [x])]
    assert len(reasons) == 1, "the first alone is beyond the bound"
    assert reasons[0].startswith("PrunePolicy")


def test_the_measured_change_is_in_the_reason():
    manager, _, _, x = learnt(gm.PruneWithin(0.3, grace=0))
    (edit,) = manager.end_task([x])
    assert "candidates by penalty saliency; relative change of the output 0." in edit.reason
    assert edit.reason.endswith("bound 0.3")


def test_a_metric_that_is_not_a_number_is_no_licence():
    manager, *_, x = learnt(gm.PruneWithin(1e9, measure="metrics", grace=0))
    assert manager.end_task([x], metrics={"bad": lambda model: float("nan")}) == ()


def test_a_metric_that_fails_leaves_everything_as_it_was():
    def fails(model):
        if model[0].out_features < 10:
            raise ZeroDivisionError
        return 1.0

    manager, _, optimizer, x = learnt(gm.PruneWithin(0.1, measure="metrics", grace=0))
    before = everything(manager, optimizer)
    with pytest.raises(ZeroDivisionError):
        manager.end_task([x], metrics={"fails": fails})
    assert everything(manager, optimizer) == before


def test_data_are_asked_for():
    manager, _, mas, _, x = managed(prune=gm.PruneWithin(0.1, reconstruct=False))
    mas.consolidate([x])
    with pytest.raises(PlanError, match=r"measures its cost on output, but has no data: give"):
        manager.step()


def test_one_metric_that_fails_among_others_is_no_licence():
    manager, structure, _, x = learnt(gm.PruneWithin(0.0, measure="metrics", grace=0))
    parameters = structure.parameters

    def broken(model):
        return 1.0 if structure.parameters == parameters else float("nan")

    metrics = {"fine": lambda model: 1.0, "broken": broken}
    assert manager.end_task([x], metrics=metrics) == ()


def test_the_bound_may_be_on_what_the_views_of_all_tasks_answer():
    torch.manual_seed(0)
    layers = nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 3)
    net, x = nn.Sequential(*layers).eval(), inputs()
    structure = gm.Structure(net, x)
    prune = gm.PruneWithin(0.02, measure="metrics", grace=0)
    manager = gm.StructuralManager(structure, mas=gm.MAS(net), grow=gm.GrowPolicy(4), prune=prune)

    def answers(task):
        with structure.view(task), torch.no_grad():
            return net(x)

    def moved(task, then):
        return lambda model: -float((answers(task) - then).abs().mean())

    died = 0
    for task in "abc":
        manager.begin_task(task)
        net.train()(x + 1)
        net.eval()
        structure.remember_norms()
        metrics = {name: moved(name, answers(name)) for name in structure.tasks}
        for edit in manager.end_task([x], metrics=metrics):
            died += len(edit.died["0"])
        assert all(metric(net) >= -0.02 - 1e-6 for metric in metrics.values())
    assert died > 3
