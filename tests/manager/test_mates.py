"""Young mates are pruned together, because one alone would change the function."""

import pytest
import torch
from scenes import inputs, labels, managed, train

import growmas as gm


class PruneNamed(gm.Policy):
    """Removes the units that a test names."""

    moments = ("step", "end")
    grace = 0

    def __init__(self, **units):
        self.units = units

    def propose(self, situation):
        return gm.Plan(prune={name[1:]: ids for name, ids in self.units.items()})


def grown(**policies):
    manager, structure, mas, optimizer, x = managed(**policies)
    manager.begin_task("a")
    structure.apply(gm.Plan(grow={"0": 5}), followers=manager.followers, init="paired")
    return manager, structure, mas, optimizer, x


def test_a_young_mate_is_pruned_with_its_partner_and_nothing_changes():
    manager, structure, _, _, x = grown(prune=PruneNamed(_0=[10, 13]))
    before = structure.model(x).detach()
    (edit,) = manager.step([x])
    assert sorted(edit.died["0"]) == [10, 11, 12, 13, 14]
    torch.testing.assert_close(structure.model(x).detach(), before, rtol=1e-5, atol=1e-6)


def test_mates_that_have_grown_apart_are_pruned_one_by_one():
    manager, structure, mas, optimizer, x = grown(prune=PruneNamed(_0=[10]))
    for group in optimizer.param_groups:
        group["lr"] = 0.03
    train(structure.model, mas, (x, labels(x)), steps=60, optimizer=optimizer)
    (edit,) = manager.step([x])
    assert edit.died["0"] == (10,)


def test_a_family_that_would_leave_no_unit_stays():
    manager, structure, _, _, x = grown(prune=PruneNamed(_0=[*range(10), 12, 13, 14, 10]))
    (edit,) = manager.step([x])
    assert structure.groups["0"].unit_ids in ((10, 11), (12, 13, 14))
    assert len(edit.died["0"]) in (12, 13)


def test_mates_are_part_of_the_managers_state():
    manager, structure, *_ = grown(prune=PruneNamed(_0=[10]))
    state = manager.state_dict()
    assert state["mates"] == {"0": [[10, 11], [12, 13, 14]]}
    manager.load_state_dict(state)
    assert manager.propose("step", [inputs()])[0].prune == {"0": (10, 11)}
    del state["mates"]
    manager.load_state_dict(state)
    assert manager.propose("step", [inputs()])[0].prune == {"0": (10,)}
    assert structure.groups["0"].width == 15


@pytest.mark.parametrize("init", ["paired", {"0": "paired"}])
def test_a_manager_grows_in_pairs(init):
    manager, structure, *_, x = managed(grow=gm.GrowPolicy(2))
    manager.begin_task("a")
    manager.end_task([x])
    before = structure.model(x).detach()
    (edit,) = manager.begin_task("b", [x], init=init)
    assert edit.mates["0"] == ((10, 11),)
    torch.testing.assert_close(structure.model(x).detach(), before, rtol=1e-5, atol=1e-6)
