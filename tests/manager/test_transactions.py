"""Steps of the manager that fail leave everything as it was, and can be called again."""

import random
import sqlite3
import threading

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.history.store import Store


class Torn(Exception):
    pass


class Bad:
    """A follower that raises when it is told to."""

    failing = False

    def follow(self, edit):
        if self.failing:
            raise Torn


def scene(tmp_path, *, momentum=0.0):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.ReLU(),
        nn.Linear(6, 2),
    )  # fmt: skip
    x = torch.randn(8, 1, 6, 6)
    structure = gm.Structure(net, x)
    optimizer = torch.optim.AdamW(net.parameters())
    bad, mas = Bad(), gm.MAS(net)
    tracker = gm.TopologyTracker(structure, tmp_path / "h.db", timeout=0.1)
    manager = gm.StructuralManager(
        structure, mas=mas, optimizer=optimizer, tracker=tracker, followers=[bad],
        grow=[gm.GrowPolicy(2), gm.GrowPolicy({"0": 1})], prune=gm.PrunePolicy(0.2, grace=0),
        protect=gm.HardProtection(net, fraction=0.2),
    )  # fmt: skip
    manager.begin_task("a")
    learn(manager, optimizer, x)
    manager.end_task([x])
    manager.begin_task("b")
    learn(manager, optimizer, x)
    return manager, optimizer, bad, x


def learn(manager, optimizer, x):
    for _ in range(2):
        optimizer.zero_grad()
        (manager.structure.model(x).square().mean() + manager.mas.penalty()).backward()
        optimizer.step()


def everything(manager, optimizer, path):
    structure, model = manager.structure, manager.structure.model
    with sqlite3.connect(path) as database:
        tables = [
            database.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("units", "events", "tasks", "layers", "metrics")
        ]
    optimizer_state = optimizer.state_dict()
    return {
        "objects": [id(p) for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "model": {n: t.clone() for n, t in model.state_dict().items()},
        "structure": structure.state_dict(),
        "optimizer": optimizer_state,
        "mas": manager.mas.state_dict(),
        "manager": manager.state_dict(),
        "random": torch.get_rng_state(),
        "tables": tables,
    }


def flat(value):
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [flat(item) for item in value]
    return value


def same(one, other):
    return [name for name in one if flat(one[name]) != flat(other[name])]


def test_a_follower_that_raises_leaves_everything_as_it_was(tmp_path):
    manager, optimizer, bad, x = scene(tmp_path)
    before = everything(manager, optimizer, tmp_path / "h.db")
    before = {name: flat(value) for name, value in before.items()}
    for call in (lambda: manager.end_task([x + 1]), lambda: manager.step([x])):
        bad.failing = True
        with pytest.raises(Torn):
            call()
        after = everything(manager, optimizer, tmp_path / "h.db")
        assert [n for n in before if before[n] != flat(after[n])] == []
        bad.failing = False
    assert manager.end_task([x + 1])
    bad.failing = True
    before = {n: flat(v) for n, v in everything(manager, optimizer, tmp_path / "h.db").items()}
    with pytest.raises(Torn):
        manager.begin_task("c")
    after = everything(manager, optimizer, tmp_path / "h.db")
    assert [n for n in before if before[n] != flat(after[n])] == []
    bad.failing = False
    assert len(manager.begin_task("c")) == 2
    learn(manager, optimizer, x)


def test_a_locked_database_leaves_everything_as_it_was(tmp_path):
    manager, optimizer, _, x = scene(tmp_path)
    before = {n: flat(v) for n, v in everything(manager, optimizer, tmp_path / "h.db").items()}
    other = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(gm.GrowmasError, match="locked"):
        manager.end_task([x])
    other.execute("ROLLBACK")
    other.close()
    after = everything(manager, optimizer, tmp_path / "h.db")
    assert [n for n in before if before[n] != flat(after[n])] == []
    assert manager.end_task([x])


def test_a_step_torn_at_any_torch_operation_leaves_everything_as_it_was(tmp_path):
    manager, optimizer, _, x = scene(tmp_path)
    before = {n: flat(v) for n, v in everything(manager, optimizer, tmp_path / "h.db").items()}
    draw = random.Random(0)
    for _ in range(12):
        left = draw.randrange(1, 1500)

        class Tearing(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None, left=[left]):  # noqa: B006
                left[0] -= 1
                if left[0] == 0:
                    raise Torn
                return func(*args, **(kwargs or {}))

        try:
            with Tearing():
                manager.end_task([x])
        except (Torn, gm.GrowmasError):
            after = everything(manager, optimizer, tmp_path / "h.db")
            assert [n for n in before if before[n] != flat(after[n])] == []
        else:
            break


def test_a_full_disk_at_the_end_leaves_everything_as_it_was(tmp_path, monkeypatch):
    manager, optimizer, _, x = scene(tmp_path)
    before = {n: flat(v) for n, v in everything(manager, optimizer, tmp_path / "h.db").items()}

    def full(self, task):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "finish_task", full)
        with pytest.raises(gm.GrowmasError, match="full"):
            manager.end_task([x])
    after = everything(manager, optimizer, tmp_path / "h.db")
    assert [n for n in before if before[n] != flat(after[n])] == []


def test_edits_in_several_threads_come_one_after_another(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    structure = gm.Structure(net, torch.rand(4, 4))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(4, 4)).sum().backward()
    optimizer.step()
    failed = []

    def grow():
        try:
            for _ in range(5):
                structure.apply(gm.Plan(grow={"0": 1}), followers=[optimizer])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=grow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert structure.groups["0"].width == 28
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in net.parameters()]
