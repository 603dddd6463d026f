"""Tasks that come back: learnt again under their name, without growth."""

import pytest
import torch
from scenes import inputs, labels, managed, train
from torch import nn

import growmas as gm
from growmas.errors import PlanError, SurgeryError


def recurring(**options):
    """Two tasks that have been learnt, with growth for the second."""
    manager, structure, mas, optimizer, x = managed(grow=gm.GrowPolicy(units=2), **options)
    for task in ("a", "b"):
        manager.begin_task(task)
        train(structure.model, mas, (x, labels(x)), optimizer=optimizer)
        manager.end_task([x])
    return manager, structure, mas, optimizer, x


@pytest.mark.parametrize("task", ["a", "b"])
def test_a_task_that_comes_back_keeps_units_births_and_tasks(task):
    manager, structure, mas, optimizer, x = recurring()
    groups = dict(structure.groups)
    assert manager.begin_task(task, [x]) == ()
    assert structure.resumed == task
    train(structure.model, mas, (x, labels(x)), optimizer=optimizer)
    anchor = {name: p.detach().clone() for name, p in structure.model.named_parameters()}
    assert manager.end_task([x]) == ()
    assert structure.groups == groups
    assert structure.tasks == ("a", "b")
    assert mas.tasks == 3
    for name, value in mas.anchor.items():
        torch.testing.assert_close(value, anchor[name])

    (edit,) = manager.begin_task("c")
    assert structure.resumed is None
    assert set(structure.groups["0"].births) == {0, 1, 2}
    assert edit.task == 2


def test_learning_again_in_the_view_leaves_younger_units_alone():
    manager, structure, *_, x = recurring()
    first = structure.model[0]
    manager.begin_task("a")
    before = first.weight[10:].detach().clone(), first.weight[:10].detach().clone()
    with structure.view("a") as model:
        torch.optim.SGD(model.parameters(), 0.1).zero_grad()
        model(x).square().sum().backward()
    torch.optim.SGD(structure.model.parameters(), 0.1).step()
    assert torch.equal(first.weight[10:], before[0])
    assert not torch.equal(first.weight[:10], before[1])


def test_an_open_task_is_not_resumed_and_nothing_happens():
    manager, structure, *_, x = recurring()
    manager.begin_task("a")
    with pytest.raises(PlanError, match=r"task 'a' is open already: call end_task\(batches\)"):
        manager.begin_task("a")
    manager.end_task([x])
    manager.begin_task("c")
    with pytest.raises(PlanError, match="task 'c' is open already"):
        manager.begin_task("c")
    with structure.view("a"), pytest.raises(SurgeryError, match="inside a view"):
        manager.begin_task("b")
    assert structure.tasks == ("a", "b", "c")
    assert structure.resumed is None


def test_the_policies_that_prune_are_asked_at_the_end_as_ever():
    manager, structure, *_, x = recurring(prune=gm.PrunePolicy(ratio=0.15))
    widths = {name: group.width for name, group in structure.groups.items()}
    manager.begin_task("a")
    manager.end_task([x])
    for name, group in structure.groups.items():
        assert group.width < widths[name]
        assert group.births.count(1) == 2  # the newest are as young as they were


def normed(*, protect=None, **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    structure, optimizer = gm.Structure(net, inputs()), torch.optim.SGD(net.parameters(), 0.05)
    manager = gm.StructuralManager(
        structure,
        mas=gm.MAS(net),
        grow=gm.GrowPolicy(units=1),
        optimizer=optimizer,
        protect=gm.HardProtection(net, fraction=0.8) if protect == "hard" else protect,
        **options,
    )
    return net, structure, optimizer, manager


def drift(net, optimizer, seed):
    optimizer.zero_grad()
    net.train()(3 * inputs(seed=seed) + seed).square().mean().backward()
    optimizer.step()
    net.eval()


def answer(structure, task):
    with structure.view(task) as model, torch.no_grad():
        return model(inputs(seed=9))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norms": "affine"},
        {"per_task": ("gains", "biases")},
        {"norms": "affine", "protect": "hard"},
    ],
    ids=["statistics", "affine", "per task", "hard"],
)
def test_norms_gains_and_biases_go_on_where_the_task_was(options):
    net, structure, optimizer, manager = normed(**options)
    for number, task in enumerate(("a", "b"), 1):
        manager.begin_task(task)
        drift(net, optimizer, seed=number)
        manager.end_task([inputs(seed=number)])
    before = {task: answer(structure, task) for task in ("a", "b")}

    manager.begin_task("a")
    for task, wanted in before.items():
        assert torch.equal(answer(structure, task), wanted)  # nothing has been learnt yet
    at = net[1].running_mean.clone(), net[1].bias.detach().clone()
    drift(net, optimizer, seed=3)
    assert not torch.equal(net[1].running_mean, at[0])
    if options.get("protect"):
        held = manager.protect.frozen["1.bias"]
        assert torch.equal(net[1].bias[held], at[1][held])
    elif options:
        assert not torch.equal(net[1].bias, at[1])
    now = answer(structure, "a")
    manager.end_task([inputs(seed=3)])
    assert torch.equal(answer(structure, "a"), now)  # stored again, and so for good
    manager.begin_task("c")
    drift(net, optimizer, seed=4)
    assert set(structure.norms) == {"a", "b"}
    assert structure._norms.tasks[0]["1.running_mean"].shape == (7,)


def test_a_task_left_before_its_end_keeps_its_norms():
    net, structure, _, manager = normed()
    manager.begin_task("a")
    manager.end_task([inputs()])
    structure.begin_task("b")
    net[1].running_mean.fill_(2.0)
    structure.begin_task("a")  # b has not ended
    assert float(structure._norms.tasks[1]["1.running_mean"].mean()) == 2.0
    net[1].running_mean.fill_(3.0)
    structure.begin_task("c")  # nor has a
    assert float(structure._norms.tasks[0]["1.running_mean"].mean()) == 3.0
    structure.begin_task("b")
    assert float(net[1].running_mean.mean()) == 2.0


def test_a_resumed_task_is_part_of_the_state():
    manager, structure, *_ = recurring()
    assert "resumed" not in structure.state_dict()
    manager.begin_task("a")
    state = structure.state_dict()
    other_manager, other, *_ = managed(grow=gm.GrowPolicy(units=2))
    other.load_state_dict(state)
    other.model.load_state_dict(structure.model.state_dict())
    other_manager.load_state_dict(manager.state_dict())
    assert (other.resumed, other.task) == ("a", 1)
    with pytest.raises(SurgeryError, match="the state resumes 'z', which is not one of its tasks"):
        other.load_state_dict({**state, "resumed": "z"})
    assert other.resumed == "a"


def test_the_history_tells_that_a_task_came_back(tmp_path):
    path = tmp_path / "h.db"
    manager, structure, *_, x = managed(grow=gm.GrowPolicy(units=2))
    with gm.TopologyTracker(structure, path) as tracker:
        manager = gm.StructuralManager(
            structure, mas=manager.mas, tracker=tracker, grow=gm.GrowPolicy(units=2)
        )
        for task in ("a", "b", "a"):
            manager.begin_task(task)
            manager.end_task([x])
        tracker.snapshot("a", metrics={"accuracy": 0.5})
        with pytest.raises(gm.errors.HistoryError, match="use another word"):
            tracker.note("resume")
        last = tracker.last_event
    with gm.TopologyHistory(path) as history:
        assert [task.name for task in history.tasks()] == ["a", "b"]
        (event,) = history.log(["resume"])
        assert (event.task, event.cause) == ("b", {"task": "a"})
        assert event.reason == "task 'a' is learnt again"
        assert history.widths()["0"] == {"a": 10, "b": 12}
        assert history.metrics("b") == {"accuracy": 0.5}
    with gm.TopologyTracker.resume(structure, path, rewind=last - 1):
        pass
    with gm.TopologyHistory(path) as history:
        assert [event.kind for event in history.log()][-2:] == ["resume", "snapshot"]
