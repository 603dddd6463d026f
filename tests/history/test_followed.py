"""A tracker of a real structure: the history agrees with the network."""

from pathlib import Path

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker


class Net(nn.Module):
    """A residual sum, a concatenation, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.side = nn.Conv2d(6, 4, 1)
        self.fc = nn.Linear(10, 8)
        self.heads = nn.ModuleList([nn.Linear(8, 2), nn.Linear(8, 3)])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        h = torch.relu(self.stem(x))
        h = h + self.inner(h)
        h = torch.cat([h, self.side(h)], 1).mean((2, 3))
        h = torch.relu(self.fc(h))
        return [head(h) for head in self.heads]


@pytest.fixture
def structure() -> gm.Structure:
    torch.manual_seed(0)
    return gm.Structure(Net(), torch.rand(2, 1, 4, 4))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_the_graph_has_sums_and_concatenations_with_their_widths(
    structure: gm.Structure, path: Path
) -> None:
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot("a")
        structure.apply(gm.Plan(grow={"side": 3}, prune={"stem": [1, 2]}))
        tracker.snapshot("b")
        cost = structure.cost()
    with TopologyHistory(path) as history:
        graph = history.graph()
        assert set(graph.predecessors("add")) == {"relu", "inner"}
        assert set(graph.predecessors("cat")) == {"add", "side"}
        assert [graph.nodes[name]["width"] for name in ("relu", "add", "cat")] == [4, 4, 11]
        assert history.graph("a").nodes["cat"]["width"] == 10
        assert set(graph.predecessors("stem")) == {"input"}
        layers = history.graph(operations=False)
        assert set(layers.predecessors("fc")) == {"stem", "inner", "side"}
        assert set(layers.successors("fc")) == {"heads.0", "heads.1"}
        size = history.sizes()["b"]
        assert (size.flops, size.parameters, size.units) == (
            cost.flops,
            cost.parameters,
            cost.units,
        )
        flops = {layer.name: layer.flops or 0 for layer in history.layers()}
        of_heads = sorted(flops.pop(name) for name in ("heads.0", "heads.1"))
        assert sum(flops.values()) + of_heads[-1] == cost.flops
        assert history.flops_of == "sample"


def test_flops_of_a_transformer_are_counted_outside_its_fast_path(path: Path) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    structure = gm.Structure(layer, torch.rand(2, 4, 16))
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot("a")
    with TopologyHistory(path) as history:
        flops = {layer.name: layer.flops for layer in history.layers()}
        assert flops["linear1"] == 2 * 4 * 16 * 32
        assert history.sizes()["a"].flops == structure.cost().flops > flops["linear1"]


def test_importance_is_shared_out_over_the_heads(structure: gm.Structure, path: Path) -> None:
    model = structure.model
    omega = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    omega["heads.1.weight"][:, 4:] = 0
    structure.apply(gm.Plan(prune={"fc": [2]}))
    for name in ("heads.0.weight", "heads.1.weight"):
        omega[name] = omega[name][:, [0, 1, *range(3, 8)]]
    omega["fc.weight"], omega["fc.bias"] = omega["fc.weight"][:7], omega["fc.bias"][:7]
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot("a", omega=omega)
    parts = [(omega[n] * model.get_parameter(n).detach() ** 2).sum(0)
             for n in ("heads.0.weight", "heads.1.weight")]  # fmt: skip
    first = (parts[0] / (parts[0] + parts[1])).tolist()
    saliency = structure.saliency(omega)["fc"].tolist()
    with TopologyHistory(path) as history:
        assert list(history.importance("a")["fc"].values()) == pytest.approx(saliency, rel=1e-6)
        whole = float(parts[0].sum() / (parts[0].sum() + parts[1].sum()))
        assert history.consumers("a")["fc"]["heads.0"] == pytest.approx(whole, rel=1e-5)
        for place, unit in enumerate((0, 1, 3, 4, 5, 6, 7)):
            found = history.unit("fc", unit)
            assert found.importance["a"] == pytest.approx(saliency[place], rel=1e-6)
            shares = found.consumers["a"]
            assert shares["heads.0"] == pytest.approx(first[place], abs=0.5 / 255 + 1e-6)
            assert ("heads.1" in shares) == (unit < 4)


def test_an_edit_that_another_listener_undoes_leaves_no_row(
    structure: gm.Structure, path: Path
) -> None:
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot("a")

        def refuse(edit: gm.Edit) -> None:
            raise RuntimeError("not today")

        stop = structure.subscribe(refuse)
        with pytest.raises(RuntimeError, match="not today"):
            structure.apply(gm.Plan(grow={"fc": 3}))
        stop()
        structure.apply(gm.Plan(grow={"fc": 2}))
        tracker.snapshot("b")
    with TopologyHistory(path) as history:
        assert history.widths()["fc"] == {"a": 8, "b": 10}
        assert len(history.events()) == 1
        assert history.born("b")["fc"] == (8, 9)


def test_a_task_that_cannot_be_written_has_not_begun(structure: gm.Structure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot("a")
        with pytest.raises(HistoryError, match="not both"):
            structure.begin_task("b")
        assert structure.tasks == ()


def test_replacing_units_links_the_new_to_the_old(structure: gm.Structure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker:
        structure.apply(gm.Plan(replace={"fc": [3, 5]}, grow={"fc": 1}))
        tracker.snapshot("a")
    with TopologyHistory(path) as history:
        links = {line.unit: line.replaced for line in history.lifelines("fc") if line.unit > 7}
    assert links == {8: None, 9: 3, 10: 5}
