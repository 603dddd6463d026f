"""Small networks for flat images of 28 × 28: an MLP, a conv net and a transformer."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def mlp(width: int = 100) -> nn.Sequential:
    """Return an MLP of two hidden layers, for 784 inputs and 10 classes."""
    return nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def wide_mlp() -> nn.Sequential:
    """Return the MLP of Elsayed and Mahmood (2024): hidden layers of 300 and 150."""
    return nn.Sequential(
        nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 150), nn.ReLU(), nn.Linear(150, 10)
    )


def small_mlp() -> nn.Sequential:
    """Return an MLP of one hidden layer of 20, for 20 bits and one number."""
    return nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 1))


def conv_net() -> nn.Sequential:
    """Return a conv net with two layers of 8 and 16 channels and a hidden layer of 64."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def normed_conv_net() -> nn.Sequential:
    """Return a conv net with three layers of 16, 32 and 64 channels and BatchNorm."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


class Transformer(nn.Module):
    """Two blocks of width 32 over 16 patches of 7 × 7, with 4 heads and 64 units between."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.embed = nn.Linear(49, 32)
        self.place = nn.Parameter(torch.randn(16, 32) * 0.02)
        self.blocks = nn.Sequential(_Block(), _Block())
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of flat images."""
        patches = x.view(-1, 4, 7, 4, 7).transpose(2, 3).reshape(-1, 16, 49)
        return self.head(self.norm(self.blocks(self.embed(patches) + self.place)).mean(1))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(torch.relu(self.up(self.second(x))))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "wide": wide_mlp,
    "small": small_mlp,
    "conv": conv_net,
    "normed": normed_conv_net,
    "transformer": Transformer,
}
