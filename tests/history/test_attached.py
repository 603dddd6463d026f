"""Models that other code prunes and grows, followed without a `Structure`."""

from pathlib import Path

import pytest
import torch
import torch_pruning as tp
from torch import nn

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.fc1, self.fc2 = nn.Linear(8 * 4, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 3)
        return self.fc2(torch.relu(self.fc1(maps.flatten(1))))


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    net = Net()
    nn.init.uniform_(net.norm.weight)
    return net


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


INPUTS = torch.rand(2, 1, 8, 8)


def _prune(model: nn.Module, layer: nn.Module, channels: list[int]) -> None:
    """Prune as users of torch-pruning do."""
    graph = tp.DependencyGraph().build_dependency(model, INPUTS)
    cut = (
        tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
    )
    graph.get_pruning_group(layer, cut, channels).prune()


@pytest.mark.parametrize("inputs", [None, INPUTS])
def test_units_pruned_by_other_code_are_found(
    model: Net, path: Path, inputs: torch.Tensor | None
) -> None:
    with TopologyTracker.attach(model, path, example_inputs=inputs) as tracker:
        tracker.snapshot("a", metrics={"accuracy": 0.9})
        _prune(model, model.fc1, [0, 5])
        _prune(model, model.conv, [1, 2, 7])
        tracker.snapshot("b", metrics={"accuracy": 0.8})
    with TopologyHistory(path) as history:
        assert history.died("b")["conv"] == (1, 2, 7)
        assert history.died("b")["fc1"] == (0, 5)
        assert history.widths()["fc1"] == {"a": 12, "b": 10}
        (event,) = history.events()
        assert (event.kind, event.task) == ("external", "b")
        assert event.cause["groups"]["fc1"] == {"born": 0, "died": 2, "told_by": "values"}
        assert history.unit("fc1", 5).death_reason == event.reason
        sizes = history.sizes()["b"]
        assert sizes.parameters == sum(p.numel() for p in model.parameters())
        assert (sizes.flops is None) == (inputs is None)
        assert ("relu", "fc2") not in history.edges() or inputs is not None


def test_after_training_only_the_number_is_known(model: Net, path: Path) -> None:
    with TopologyTracker.attach(model, path) as tracker:
        _prune(model, model.fc1, [0, 5])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1)
        tracker.snapshot("a")
    with TopologyHistory(path) as history:
        assert history.died("a")["fc1"] == (10, 11)
        assert history.events()[0].cause["groups"]["fc1"]["told_by"] == "shapes"


def test_grown_layers_get_new_units_and_ids_are_never_used_again(model: Net, path: Path) -> None:
    with TopologyTracker.attach(model, path) as tracker:
        _prune(model, model.fc1, [11])
        tracker.snapshot("a")
        model.fc1, model.fc2 = nn.Linear(32, 14), nn.Linear(14, 3)
        tracker.snapshot("b")
        del model.norm
        tracker.snapshot("c")
        model.fc3 = nn.Linear(3, 2)
        tracker.snapshot("d")
    with TopologyHistory(path) as history:
        assert history.born("b")["fc1"] == (12, 13, 14)
        assert history.units()["fc1"] == (*range(11), 12, 13, 14)
        assert [e.born for e in history.events()] == [{}, {"fc1": (12, 13, 14)}, {"fc3": (0, 1)}]


def test_importance_is_of_incoming_weights_where_readers_are_not_known(
    model: Net, path: Path
) -> None:
    omega = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    with TopologyTracker.attach(model, path) as tracker:
        tracker.snapshot("a", omega=omega)
    own = omega["fc2.weight"] * model.fc2.weight.square()
    bias = omega["fc2.bias"] * model.fc2.bias.square()
    with TopologyHistory(path) as history:
        assert list(history.importance("a")["fc2"].values()) == pytest.approx(
            (own.sum(1) + bias).tolist(), rel=1e-5
        )
        assert history.consumers("a") == {}


def test_importance_is_shared_out_over_readers_where_they_are_known(model: Net, path: Path) -> None:
    omega = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    with TopologyTracker.attach(model, path, example_inputs=INPUTS) as tracker:
        tracker.snapshot("a", omega=omega)
    with TopologyHistory(path) as history:
        assert history.consumers("a") == {"conv": {"fc1": 1.0}, "fc1": {"fc2": 1.0}}


def test_a_snapshot_that_fails_forgets_nothing(model: Net, path: Path) -> None:
    with TopologyTracker.attach(model, path) as tracker:
        _prune(model, model.fc1, [3])
        with pytest.raises(HistoryError, match="metrics must be finite"):
            tracker.snapshot("a", metrics={"loss": float("nan")})
        with pytest.raises(HistoryError, match="are not alive"):
            tracker.snapshot("a", frozen={"fc1": [99]})
        tracker.snapshot("a")
    with TopologyHistory(path) as history:
        assert history.died("a")["fc1"] == (3,)
        assert len(history.events()) == 1
