"""The choice between freezing and the penalty: what it compares, takes, restores and refuses."""

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import PenaltyError, PlanError


def started(*, strengths=(0.1, 1.0), tasks=2):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.rand(32, 4)
    structure = gm.Structure(net, x)
    mas = gm.MAS(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    protect = gm.AutoProtection(structure, mas, strengths=strengths)
    manager = gm.StructuralManager(
        structure, mas=mas, optimizer=optimizer, grow=gm.GrowPolicy(units=2), protect=protect
    )

    def learn():
        for _ in range(3):
            optimizer.zero_grad()
            (net(x).square().mean() + mas.penalty()).backward()
            optimizer.step()

    manager.begin_task("first")
    learn()
    manager.end_task([x])
    if tasks == 2:
        manager.begin_task("second")
    return net, x, protect, manager, optimizer, learn


def scripted(scores):
    """Return a function that gives the scores in order."""
    given = iter(scores)
    return lambda: next(given)


def bits(net, optimizer):
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    return [t.clone() for t in (*net.state_dict().values(), *state)]


def test_trials_leave_no_trace():
    net, _, protect, _, optimizer, learn = started()
    before, random = bits(net, optimizer), torch.get_rng_state()
    protect.choose(lambda: (learn(), torch.rand(3)), scripted([0.5, 0.7, 0.6]), optimizer=optimizer)
    assert all(map(torch.equal, before, bits(net, optimizer)))
    assert torch.equal(torch.get_rng_state(), random)
    assert protect.choice.scores == (("old", 0.5), (0.1, 0.7), (1.0, 0.6))
    assert protect.choice.chosen == 0.1 == protect.mas.strength
    assert "old units frozen 0.5000, penalty 0.1 0.7000" in str(protect.choice)


def test_each_trial_has_the_protection_it_is_for():
    net, _, protect, _, optimizer, learn = started()
    old = net[0].weight[:8].clone()
    moved = []

    def evaluate():
        moved.append(float((net[0].weight[:8] - old).abs().max().detach()))
        return 0.0

    protect.choose(learn, evaluate, optimizer=optimizer)
    assert moved[0] == 0.0
    assert moved[1] > 0
    assert moved[2] > 0
    assert protect.choice.chosen == "old"  # of equal scores, what keeps the fewest numbers


@pytest.mark.parametrize(("margin", "chosen"), [(0.0, 1.0), (0.15, 1.0), (0.25, "old")])
def test_a_penalty_must_be_better_by_more_than_the_margin(margin, chosen):
    _, _, protect, _, optimizer, learn = started()
    scores = scripted([0.5, 0.6, 0.7])
    choice = protect.choose(learn, scores, optimizer=optimizer, margin=margin)
    assert choice.chosen == chosen


def test_chosen_freezing_holds_and_keeps_no_importance():
    net, x, protect, manager, optimizer, learn = started()
    protect.choose(learn, scripted([1, 0, 0]), optimizer=optimizer)
    old = net[0].weight[:8].clone()
    learn()
    manager.end_task([x])
    manager.begin_task("third")
    learn()
    manager.end_task([x])
    assert torch.equal(net[0].weight[:8], old)
    assert protect.through == 2
    assert not protect.mas.omega
    assert not protect.mas.anchor


def test_a_chosen_penalty_holds_and_freezes_nothing():
    _, x, protect, manager, optimizer, learn = started()
    protect.choose(learn, scripted([0, 0, 1]), optimizer=optimizer)
    learn()
    manager.end_task([x])
    assert protect.share == 0
    assert protect.mas.tasks == 2
    assert protect.mas.strength == 1.0


@pytest.mark.parametrize("scores", [[1, 0, 0], [0, 1, 0]])
def test_the_choice_is_in_the_state_of_the_manager(scores):
    _, x, protect, manager, optimizer, learn = started()
    protect.choose(learn, scripted(scores), optimizer=optimizer)
    manager.end_task([x])
    _, _, fresh, other, *_ = started(tasks=1)
    other.load_state_dict(manager.state_dict())
    assert fresh.choice == protect.choice
    assert fresh.penalised == protect.penalised
    damaged = {**protect.state_dict(), "chosen": "young"}
    with pytest.raises(PenaltyError, match="'young'"):
        fresh.load_state_dict(damaged)


def test_it_is_asked_once_and_on_the_second_task():
    _, x, protect, manager, optimizer, learn = started(tasks=1)
    with pytest.raises(PlanError, match="on the second task"):
        protect.choose(learn, lambda: 0.0, optimizer=optimizer)
    manager.begin_task("second")
    with pytest.raises(PlanError, match="was not chosen: call choose"):
        manager.end_task([x])
    with pytest.raises(PlanError, match="margin=-1"):
        protect.choose(learn, lambda: 0.0, optimizer=optimizer, margin=-1)
    with pytest.raises(PlanError, match="is not a number"):
        protect.choose(learn, lambda: float("nan"), optimizer=optimizer)
    assert protect.choice is None
    protect.choose(learn, lambda: 0.0, optimizer=optimizer)
    with pytest.raises(PlanError, match="was made before"):
        protect.choose(learn, lambda: 0.0, optimizer=optimizer)


def test_an_error_in_a_trial_changes_nothing():
    net, _, protect, _, optimizer, learn = started()
    before, strength = bits(net, optimizer), protect.mas.strength

    def fails():
        learn()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        protect.choose(fails, lambda: 0.0, optimizer=optimizer)
    assert all(map(torch.equal, before, bits(net, optimizer)))
    assert protect.mas.strength == strength
    assert protect.choice is None


@pytest.mark.parametrize("strengths", [(), (0.0,), (-1,), ("old",), (float("nan"),), 0.1, None])
def test_wrong_strengths_are_refused(strengths):
    with pytest.raises(PlanError, match="expected numbers above 0 to try"):
        started(strengths=strengths)


def test_a_penalty_of_another_network_is_refused():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    structure = gm.Structure(net, torch.rand(2, 4))
    for mas in (None, gm.MAS(nn.Linear(2, 2))):
        with pytest.raises(PlanError, match="mas: expected the MAS"):
            gm.AutoProtection(structure, mas, strengths=(1.0,))
