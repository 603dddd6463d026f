"""The short form of `experiments/zoo`: tiny networks of torch and transformers, every check."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "zoo"))
import table
import transformer_zoo
import trial

TRANSFORMERS = {"bert": 2, "gpt2": 2, "llama": 2, "vit": 2, "resnet": 0}
"""Kind of model -> the least number of groups of heads."""


class Residual(nn.Module):
    """Two convolutions beside a path, as in a ResNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.second, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.norm2(self.second(self.norm1(self.first(x)).relu()))).relu()


def convolutional() -> tuple[nn.Module, Any, Any]:
    ends = nn.Conv2d(3, 8, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    model = nn.Sequential(ends[0], Residual(8), nn.PReLU(), Residual(8), ends[1])
    return model, torch.randn(2, 3, 9, 9), torch.randn(2, 3, 9, 9)


def encoder() -> tuple[nn.Module, Any, Any]:
    layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=True)
    blocks = nn.TransformerEncoder(layer, 2, nn.LayerNorm(12), enable_nested_tensor=False)
    model = nn.Sequential(nn.Linear(5, 12), blocks, nn.Linear(12, 2))
    return model, torch.randn(2, 4, 5), torch.randn(2, 4, 5)


NETWORKS = {"convolutional": convolutional, "nn.TransformerEncoder": encoder}


def check(found: dict[str, Any], heads: int = 0) -> None:
    assert found["failures"] == []
    assert found["share"] >= 0.9
    assert found["heads"] >= heads
    assert found["analysis_s"] < 10


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torch(name: str) -> None:
    torch.manual_seed(0)
    check(trial.tried(*NETWORKS[name](), most=3))


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_networks_of_transformers(kind: str) -> None:
    pytest.importorskip("transformers")
    check(trial.tried(*transformer_zoo.example(kind), most=2), TRANSFORMERS[kind])


def test_the_table_counts_what_was_found() -> None:
    good = {
        "library": "a", "groups": 2, "share": 0.95, "grows": 0.5, "heads": 1, "failures": ["b"],
        "tried": 2, "analysis_s": 0.5,
    }  # fmt: skip
    rows = table.table([{**good, "model": "x"}, {"library": "a", "model": "y", "error": "e"}])
    assert rows.splitlines()[-1] == (
        "| a | 2 | 1 | 0 | 0.950 | 1 of 1 | 0.500 | 1 | 1 of 2 groups | 0.5 |"
    )
