import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import HistoryError


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(),
                         nn.Linear(4, 2))  # fmt: skip


def test_edges_are_the_weights_between_units_added_up(net):
    structure = gm.Structure(net, torch.rand(1, 1, 4, 4))
    structure.apply(gm.Plan(prune={"0": [0]}, grow={"3": 1}))
    graph = gm.unit_graph(structure, threshold=0)
    middle, last = net[3].weight.detach().abs(), net[5].weight.detach().abs()
    for unit, columns in ((1, slice(0, 4)), (2, slice(4, 8))):  # two channels of 2 × 2 pixels
        for row, reader in enumerate(structure.groups["3"].unit_ids):
            expected = float(middle[row, columns].sum())
            found = graph.get_edge_data(("0", unit), ("3", reader), {"weight": 0.0})
            assert found["weight"] == pytest.approx(expected)
    assert graph.edges[("3", 2), ("5", 1)]["weight"] == pytest.approx(float(last[1, 2]))
    assert graph.nodes["3", 4] == {"group": "3", "unit": 4, "birth": 0}
    assert set(graph) >= {("5", 0), ("5", 1)}


def test_weak_edges_are_left_out_and_omega_takes_the_place_of_weights(net):
    structure = gm.Structure(net, torch.rand(1, 1, 4, 4))
    omega = {name: torch.rand_like(p) for name, p in net.named_parameters()}
    graph = gm.unit_graph(structure, omega, threshold=0.5)
    between = omega["5.weight"]
    expected = {(("3", i), ("5", o)) for o, i in (between >= between.max() / 2).nonzero().tolist()}
    assert {edge for edge in graph.edges if edge[1][0] == "5"} == expected
    saliency = structure.saliency(omega)["3"]
    assert graph.nodes["3", 1]["importance"] == pytest.approx(float(saliency[1]))


def test_large_networks_and_odd_thresholds_are_refused(net):
    structure = gm.Structure(net, torch.rand(1, 1, 4, 4))
    with pytest.raises(HistoryError, match=r"7 units are too many .* pass most=7"):
        gm.unit_graph(structure, most=6)
    with pytest.raises(HistoryError, match="threshold=2: expected a share"):
        gm.unit_graph(structure, threshold=2)
