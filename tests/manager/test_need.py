import pytest
import snapshots
import torch
from scenes import inputs, labels, managed, train

import growmas as gm
from growmas.manager import trial_loss


def wide(model, mas):
    """A trial in which units help: the loss is 10 over the width of the first layer."""
    return 10 / model[0].out_features


def begun_twice(trial=wide, **settings):
    budget = settings.pop("budget", None)
    manager, structure, *_, x = managed(grow=gm.GrowByNeed(**settings), budget=budget)
    assert manager.begin_task("a", trial=trial) == ()
    manager.end_task([x])
    return manager, structure, manager.begin_task("b", trial=trial)


@pytest.mark.parametrize(
    ("target", "grown"),
    [(1.0, 0), (0.9, 4), (0.8, 4), (0.6, 8), (0.4, 16), (0.1, 30), (-1.0, 30)],
)
def test_the_first_size_that_reaches_the_target_is_taken(target, grown):
    manager, structure, edits = begun_twice(target=target, step=4, most=30)
    assert structure.groups["0"].width == 10 + grown
    assert structure.groups["2"].width == 8 + grown
    assert bool(edits) == bool(grown)
    assert manager.reached == (1.0, 10 / (10 + grown))


def test_the_reason_lists_what_was_tried():
    _, _, (edit,) = begun_twice(target=0.6, step=4)
    assert edit.reason == (
        "GrowByNeed: trial loss to be at most 0.6; by fresh units: +0 1, +8 0.714, +16 0.556"
    )


def test_the_target_can_be_what_earlier_tasks_reached():
    losses = iter([0.5, 0.9, 0.6, 0.45, 0.45, 0.7, 0.46])
    manager, structure, (edit,) = begun_twice(lambda model, mas: next(losses), step=4)
    assert "at most 0.5;" in edit.reason
    assert manager.reached == (0.5, 0.45)
    assert structure.groups["0"].width == 18
    manager.begin_task("c", trial=lambda model, mas: 0.4)
    assert structure.groups["0"].width == 18


def test_the_search_ends_where_units_do_not_help():
    tried = []

    def flat(model, mas):
        tried.append(model[0].out_features)
        return 1.0 if model[0].out_features < 14 else 0.8

    _, structure, _ = begun_twice(flat, target=0.1, step=4)
    assert structure.groups["0"].width == 14
    assert tried == [10, 10, 14, 18, 14], "the first task, three sizes, and what was reached"


def test_a_trial_that_is_not_a_number_is_no_reason_to_grow():
    _, _, edits = begun_twice(lambda model, mas: float("nan"), target=0.1)
    assert edits == ()


def test_the_budget_bounds_what_is_tried_and_what_is_grown():
    tried = []

    def trial(model, mas):
        tried.append(sum(p.numel() for p in model.parameters()))
        return wide(model, mas)

    _, structure, _ = begun_twice(trial, target=0.0, budget=gm.Budget(parameters=400))
    assert max(tried) <= 400
    assert 185 < structure.parameters <= 400


def test_a_trial_trains_copies_under_the_penalty_that_followed():
    seen = []
    x = inputs()
    batch = (x, labels(x, seed=4))

    def trial(model, mas):
        for name, parameter in model.named_parameters():
            assert mas.omega[name].shape == parameter.shape
        assert mas.model is model
        before = float(mas.penalty().detach())
        loss = train(model, mas, batch)
        torch.rand(3)
        seen.append((before, float(mas.penalty().detach())))
        return loss

    _, structure, mas, _, x = managed()
    mas.consolidate([x])
    before = (snapshots.of_model(structure.model), snapshots.of_penalty(mas))
    random = snapshots.of_random_state()
    first = trial_loss(mas, trial)
    assert trial_loss(mas, trial) == first
    assert (snapshots.of_model(structure.model), snapshots.of_penalty(mas)) == before
    assert snapshots.of_random_state() == random
    assert all(start == 0 < end for start, end in seen)


@pytest.mark.parametrize("share", ["even", "width", "parameters", "flops"])
def test_units_are_shared_out(share):
    _, _, (edit,) = begun_twice(target=-1.0, step=8, most=8, share=share, gain=0)
    assert sum(len(units) for units in edit.born.values()) == 16
