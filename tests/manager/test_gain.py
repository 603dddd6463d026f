import pytest
import snapshots
import torch
from scenes import inputs, labels, loss, managed
from torch import nn

import growmas as gm
from growmas.errors import PlanError


def linear_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3))


def test_the_gain_is_the_gradient_that_the_fresh_unit_then_gets():
    net, x = linear_network(), inputs()
    batch = (x, labels(x))
    structure = gm.Structure(net, x)
    before = snapshots.of_model(net)
    gains = gm.candidate_gains(structure, [batch], loss)["0"]
    assert snapshots.of_model(net) == before
    structure.apply(gm.Plan(grow={"0": 2}), init=gm.GradMax([batch], loss))
    loss(net, batch).backward()
    squared = net[1].weight.grad.double().square().sum(0)
    torch.testing.assert_close(squared[4:], gains.fresh[:2], rtol=1e-4, atol=1e-9)
    assert gains.living == pytest.approx(float(squared[:4].mean()), rel=1e-5)


def begun_twice(policy, **given):
    manager, structure, *_, x = managed(grow=policy)
    manager.begin_task("a")
    manager.end_task([x])
    return manager.begin_task("b", [(x, labels(x))], loss=loss, **given), structure, x


def test_the_best_candidates_above_the_threshold_are_taken():
    edits, _, x = begun_twice(gm.GrowByGain(0.01, most=5, per="units"))
    (edit,) = edits
    other = managed()[1]
    gains = gm.candidate_gains(other, [(x, labels(x))], loss)
    every = sorted(
        ((float(g), name) for name, found in gains.items() for g in found.fresh), reverse=True
    )
    expected = [name for _, name in every[:5]]
    assert {n: len(units) for n, units in edit.born.items()} == {
        n: expected.count(n) for n in set(expected)
    }
    assert edit.reason.startswith("GrowByGain: gain at least 0.01: 0 +")


def test_a_threshold_that_nothing_reaches_grows_nothing():
    assert begun_twice(gm.GrowByGain(1e9))[0] == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"GrowByGain measures gradients on the new task, but has no data: give manager.begin"),
        ({"batches": [1]}, "new task's loss, but has none: give loss="),
    ],
)
def test_data_and_loss_are_asked_for(given, message):
    manager, *_, x = managed(grow=gm.GrowByGain())
    manager.begin_task("a")
    manager.end_task([x])
    with pytest.raises(PlanError, match=message):
        manager.begin_task("b", **given)


def test_groups_without_gains_are_refused_where_there_are_no_others():
    class Merged(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.c(self.a(x) + self.b(x))

    torch.manual_seed(0)
    net, x = Merged(), inputs()
    manager = gm.StructuralManager(gm.Structure(net, x), mas=gm.MAS(net), grow=gm.GrowByGain())
    manager.begin_task("a")
    manager.end_task([x])
    with pytest.raises(PlanError, match=r"not defined for any group .'a': 2 layers give its units"):
        manager.begin_task("b", [(x, labels(x))], loss=loss)
