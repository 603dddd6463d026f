import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import PlanError


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))


def managed(**policies):
    net, x = network(), torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
    structure = gm.Structure(net, x)
    mas = gm.MAS(net)
    optimizer = torch.optim.Adam(net.parameters())
    manager = gm.StructuralManager(structure, mas=mas, optimizer=optimizer, **policies)
    return manager, structure, mas, optimizer, x


def test_grows_before_every_task_but_the_first():
    manager, structure, *_ = managed(grow=gm.GrowPolicy(units=4))
    assert manager.begin_task("a") == ()
    (edit,) = manager.begin_task("b")
    assert edit.born == {"0": (10, 11, 12, 13), "2": (8, 9, 10, 11)}
    assert structure.groups["0"].births[-4:] == (1, 1, 1, 1)
    assert "4 fresh units" in edit.reason


def test_grow_per_group():
    manager, structure, *_ = managed(grow=gm.GrowPolicy(units={"2": 5}))
    manager.begin_task("a")
    manager.begin_task("b")
    assert (structure.groups["0"].width, structure.groups["2"].width) == (10, 13)


def test_prunes_the_least_salient_old_units_and_spares_newborns():
    manager, structure, mas, _, x = managed(
        grow=gm.GrowPolicy(units=4), prune=gm.PrunePolicy(ratio=0.3)
    )
    manager.begin_task("a")
    assert manager.end_task([x]) == (), "all units are newborn in the first task"
    manager.begin_task("b")
    saliency = structure.saliency(
        {n: mas.omega[n] + o for n, o in gm.mas_importance(structure.model, [x]).items()}
    )["0"][:10]
    (edit,) = manager.end_task([x])
    assert edit.died["0"] == tuple(sorted(saliency.argsort()[:4].tolist()))
    assert len(edit.died["2"]) == 3
    assert all(unit < 10 for unit in edit.died["0"])


def test_optimizer_and_mas_follow():
    manager, structure, mas, optimizer, x = managed(
        grow=gm.GrowPolicy(units=2), prune=gm.PrunePolicy(ratio=0.2, grace=0)
    )
    for task in "abc":
        manager.begin_task(task)
        loss = structure.model(x).square().mean() + mas.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        manager.end_task([x])
    live = {id(p) for p in structure.model.parameters()}
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == live
    assert {id(p) for p in optimizer.state} == live
    for name, parameter in structure.model.named_parameters():
        assert mas.omega[name].shape == mas.anchor[name].shape == parameter.shape


def test_tracker_gets_a_snapshot_of_every_task(tmp_path):
    net, x = network(), torch.rand(8, 6)
    structure = gm.Structure(net, x)
    with gm.TopologyTracker(structure, tmp_path / "h.db") as tracker:
        manager = gm.StructuralManager(
            structure, mas=gm.MAS(net), tracker=tracker, grow=gm.GrowPolicy(units=1)
        )
        for task in "ab":
            manager.begin_task(task)
            manager.end_task([x])
    with gm.TopologyHistory(tmp_path / "h.db") as history:
        assert [task.name for task in history.tasks()] == ["a", "b"]
        assert history.unit("0", 10).birth_task == "b"


def test_a_ratio_that_leaves_nothing_is_refused():
    with pytest.raises(PlanError, match="ratio=1: expected 0 <= ratio < 1"):
        gm.PrunePolicy(ratio=1)


def test_prunes_with_statistics_of_all_tasks_unless_told_not_to():
    plain, *_ = managed(prune=gm.PrunePolicy(ratio=0.2, reconstruct=False))
    assert plain.statistics is None
    manager, structure, mas, _, x = managed(
        grow=gm.GrowPolicy(units=2), prune=gm.PrunePolicy(ratio=0.2)
    )
    for name in ("a", "b"):
        manager.begin_task(name)
        edits = manager.end_task(x[i : i + 8] for i in range(0, 32, 8))
    assert edits[0].shifts.keys() >= {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert manager.statistics.moments["2"].count == 64
    assert manager.statistics.moments["2"].features == structure.groups["0"].width
    for name, parameter in structure.model.named_parameters():
        torch.testing.assert_close(mas.anchor[name], parameter.detach())
