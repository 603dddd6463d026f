"""Mistakes of a user in a loop: each has one message and changes nothing."""

import pytest
import torch
from scenes import everything, inputs, labels, loss, managed, network

import growmas as gm
from growmas.errors import DataError, GrowmasError, PlanError, SurgeryError


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"mas": None}, "mas: expected MAS, got NoneType"),
        ({"budget": 5000}, "budget: expected Budget or None, got int"),
        ({"protect": 0.5}, "protect=0.5: expected .old., a HardProtection"),
        ({"tracker": "h.db"}, "tracker: expected TopologyTracker or None, got str"),
        ({"decide": True}, "decide=True: expected a function of a plan, or None"),
        ({"optimizer": "adam"}, "str cannot follow: expected a torch optimizer"),
        ({"followers": [5]}, "int cannot follow: expected a torch optimizer"),
    ],
)
def test_parts_that_are_something_else(parts, message):
    net = network()
    structure = gm.Structure(net, inputs())
    with pytest.raises(GrowmasError, match=message):
        gm.StructuralManager(structure, **{"mas": gm.MAS(net), **parts})
    with pytest.raises(PlanError, match="structure: expected Structure, got Sequential"):
        gm.StructuralManager(net, mas=gm.MAS(net))


class Says(gm.Policy):
    moments = ("begin",)

    def __init__(self, what):
        self.what = what

    def propose(self, situation):
        return self.what


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grow": Says(None)}, "Says returned None: expected a Plan"),
        ({"grow": Says({"0": 3})}, "Says returned {'0': 3}: expected a Plan"),
        (
            {"grow": Says(gm.Plan(grow={"0": 1})), "decide": lambda plan: True},
            "decide returned True: expected a Plan",
        ),
    ],
)
def test_what_is_no_plan_is_refused(options, message):
    manager, structure, *_ = managed(**options)
    with pytest.raises(PlanError, match=message):
        manager.begin_task("a")
    assert structure.tasks == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"init": "best"}, "init='best' is not known"),
        ({"loss": 3}, "loss=3: expected a function, or None"),
        ({"trial": "short"}, "trial='short': expected a function, or None"),
        ({"name": 2}, "task 2: expected a name, such as"),
        ({"name": ""}, "task '': expected a name, such as"),
    ],
)
def test_a_begin_that_is_refused_has_not_begun(given, message):
    manager, structure, _, _, x = managed(grow=gm.GrowPolicy(2))
    manager.begin_task("a")
    manager.end_task([x])
    with pytest.raises(PlanError, match=message):
        manager.begin_task(**{"name": "b", **given})
    assert structure.tasks == ("a",)
    assert manager.begin_task("b")


def test_batches_that_are_not_batches():
    manager, structure, *_ = managed(grow=gm.GrowPolicy(2))
    with pytest.raises(DataError, match="batches is a int: expected an iterable of batches"):
        manager.begin_task("a", 5)
    with pytest.raises(DataError, match="batches is a int: expected an iterable of batches"):
        manager.step(5)
    assert structure.tasks == ()
    manager.begin_task("a")
    with pytest.raises(DataError, match="batches is a int: expected an iterable of batches"):
        manager.end_task(5)
    assert manager.mas.tasks == 0


def test_an_end_without_data_has_not_ended():
    manager, *_, x = managed()
    manager.begin_task("a")
    with pytest.raises(PlanError, match=r"end_task needs data to measure importance on"):
        manager.end_task(None)
    manager.end_task([x])


def test_nothing_is_begun_or_ended_inside_a_view():
    manager, structure, _, optimizer, x = managed(
        grow=gm.GrowPolicy(2), prune=gm.PrunePolicy(0.3, grace=0)
    )
    manager.begin_task("a")
    before = everything(manager, optimizer)
    with structure.view("a"):
        for act in (
            lambda: manager.begin_task("b"),
            lambda: manager.end_task([x]),
            lambda: manager.step([x]),
            lambda: structure.begin_task("b"),
        ):
            with pytest.raises(SurgeryError, match="cannot be done inside a view: leave it first"):
                act()
    assert everything(manager, optimizer) == before
    assert manager.end_task([x])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda net, batch: net(batch[0]).sum(1), r"loss returned shape \[32\]: expected a scalar"),
        (lambda net, batch: 1.0, "loss returned 1.0: expected a scalar"),
        (lambda net, batch: loss(net, batch) * float("nan"), "gradient at '0', '2' is NaN or inf"),
    ],
)
def test_a_loss_that_gains_cannot_be_measured_with(given, message):
    manager, structure, _, _, x = managed(grow=gm.GrowByGain())
    manager.begin_task("a")
    manager.end_task([x])
    with pytest.raises(PlanError, match=message):
        manager.begin_task("b", [(x, labels(x))], loss=given)
    with pytest.raises(PlanError, match="there is no batch to measure gradients on"):
        manager.begin_task("b", [], loss=loss)
    assert structure.tasks == ("a",)


@pytest.mark.parametrize("found", [None, "low", torch.zeros(3)])
def test_a_trial_that_gives_no_number(found):
    manager, *_ = managed(grow=gm.GrowByNeed(target=0.1))
    manager.begin_task("a", trial=lambda net, mas: torch.ones((), requires_grad=True))
    assert manager.reached == (1.0,)
    with pytest.raises(PlanError, match=r"trial returned .*: expected a number"):
        manager.propose("begin", trial=lambda net, mas: found)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([max], r"metrics=.*: expected functions of the model by name"),
        ({"a": 5}, r"metrics=.*: expected functions of the model by name"),
        ({"a": lambda net: None}, "metric 'a' gave None: expected a number"),
        ({"a": lambda net: torch.ones(2)}, "metric 'a' gave tensor.*: expected a number"),
    ],
)
def test_metrics_that_are_none(metrics, message):
    manager, *_, x = managed(prune=gm.PruneWithin(0.1, measure="metrics", grace=0))
    manager.begin_task("a")
    with pytest.raises(PlanError, match=message):
        manager.end_task([x], metrics=metrics)
    assert manager.mas.tasks == 0
