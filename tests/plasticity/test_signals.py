"""Signals of plasticity, against their closed forms."""

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import DataError


def identity(width: int) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(width))
        net[0].bias.zero_()
    return net


def test_ranks_and_dormant_units_of_known_activations():
    net = identity(6)
    structure = gm.Structure(net, torch.rand(4, 6).double())
    x = torch.eye(6).double()
    found = gm.plasticity_signals(structure, [x])
    assert found["dormant"] == found["dormant/0"] == 0
    assert found["effective_rank/0"] == pytest.approx(6)
    assert found["stable_rank/0"] == pytest.approx(6)
    assert found["weight/0"] == pytest.approx((1 / 6) ** 0.5)
    x[2:] = 0.0
    x[1, 1] = 2.0
    found = gm.plasticity_signals(structure, [x[:3], x[3:]])
    assert found["dormant/0"] == pytest.approx(4 / 6)
    assert found["stable_rank/0"] == pytest.approx(5 / 4)
    p = torch.tensor([1 / 3, 2 / 3])
    assert found["effective_rank/0"] == pytest.approx(float((-(p * p.log()).sum()).exp()))


def test_the_health_of_newborns_is_the_ratio_of_their_gradients():
    net = identity(6)
    structure = gm.Structure(net, torch.rand(4, 6).double())
    x = torch.rand(32, 6).double()
    assert "newborn/0" not in gm.plasticity_signals(structure, [x])
    structure.begin_task("a")
    structure.begin_task("b")
    ratios = []
    for init in ("zero_out", "paired"):
        torch.manual_seed(0)
        edit = structure.apply(gm.Plan(grow={"0": 2}), init=init)
        net.zero_grad()
        net(x).square().mean().backward()
        found = gm.plasticity_signals(structure, [x])["newborn/0"]
        gradient = net[0].weight.grad
        expected = gradient[6:].square().mean().sqrt() / gradient[:6].square().mean().sqrt()
        assert found == pytest.approx(float(expected))
        ratios.append(found)
        structure.apply(gm.Plan(prune={"0": edit.born["0"]}))
    assert ratios[0] == 0 < ratios[1]  # rows starve while their columns are zero


def test_the_network_is_left_as_it_is_and_no_data_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    structure = gm.Structure(net, torch.rand(4, 1, 6, 6))
    before = {n: t.clone() for n, t in net.state_dict().items()}
    found = gm.plasticity_signals(structure, [torch.rand(8, 1, 6, 6)])
    assert 0 <= found["dormant/0"] <= 1 <= found["effective_rank/0"] <= 4
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert not any(m._forward_pre_hooks for m in net.modules())
    with pytest.raises(DataError):
        gm.plasticity_signals(structure, [])
    with pytest.raises(DataError):
        gm.plasticity_signals(structure, torch.rand(8, 1, 6, 6))


def test_signals_go_into_the_history(tmp_path):
    net = identity(6)
    structure = gm.Structure(net, torch.rand(4, 6).double())
    with gm.TopologyTracker(structure, tmp_path / "h.db") as tracker:
        structure.begin_task("a")
        found = gm.plasticity_signals(structure, [torch.rand(32, 6).double()])
        tracker.snapshot(metrics=found)
    with gm.TopologyHistory(tmp_path / "h.db") as history:
        assert history.metrics("a")["effective_rank/0"] == pytest.approx(found["effective_rank/0"])
