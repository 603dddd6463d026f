"""Layers that compute their weights, or more, when they run; named after their source.

The form is that of `wirings.NETWORKS`: how it is built, the shape of its input, and its groups.
"""

import warnings
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from wirings import BOTH, IMAGE, SHRINKS, TOKENS, VECTOR, Conv, Linear, parameter


class Standardised(nn.Conv2d):
    """Big Transfer's StdConv2d."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.var((1, 2, 3), keepdim=True) + 1e-6).sqrt()
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scaled(Standardised):
    """timm's ScaledStdConv2d, with a gain for each row."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.gain = parameter(self.out_channels, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        w = F.batch_norm(rows, None, None, self.gain.view(-1) * 0.3, training=True, eps=1e-6)
        return F.conv2d(x, w.reshape_as(self.weight), self.bias)


class Cosine(nn.Linear):
    """A linear layer whose rows are divided by their length (normalised softmax, NormFace)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.normalize(self.weight, dim=1), self.bias)


class Equalised(nn.Linear):
    """StyleGAN's linear layer, with a constant before its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.25, self.bias)


class Shifted(nn.Linear):
    """A linear layer with a gain and an offset for each row, as scale-and-shift tuning has."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.gain, self.offset = parameter(self.out_features), parameter(1, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain + self.offset


def images(kind: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(Conv(3, 6, 3), nn.ReLU(), kind(6, 8, 3), nn.ReLU(), Conv(8, 2, 1))


def tokens(kind: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(Linear(8, 6), nn.ReLU(), kind(6, 5), nn.Tanh(), Linear(5, 2))


def hooked(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def normed(norm: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        Linear(6, 8), nn.ReLU(), norm(Linear(8, 5)), nn.Tanh(), norm(Linear(5, 4, bias=False)),
        Linear(4, 2),
    )  # fmt: skip


def vocoder(norm: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        norm(Conv(3, 8, 3)), nn.LeakyReLU(), norm(Conv(8, 6, 3, groups=2)), nn.LeakyReLU(),
        norm(nn.ConvTranspose2d(6, 4, 2), dim=1), Conv(4, 2, 1),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "weight standardisation (Big Transfer)": (
        images(Standardised), IMAGE, {"0": f"6 channels, {SHRINKS}", "2": f"8 channels, {BOTH}"}
    ),
    "weight standardisation with gains (NFNet, timm ScaledStdConv2d)": (
        images(Scaled), IMAGE, {"0": f"6 channels, {SHRINKS}", "2": f"8 channels, {BOTH}"}
    ),
    "rows divided by their length": (
        tokens(Cosine), TOKENS,
        {"0": f"6 neurons, grows and {SHRINKS}", "2": f"5 neurons, {BOTH}"},
    ),
    "a constant before the weights (StyleGAN)": (
        tokens(Equalised), TOKENS, {"0": f"6 neurons, {BOTH}", "2": f"5 neurons, {BOTH}"}
    ),
    "weight norm, as a parametrisation": (
        normed(weight_norm), VECTOR,
        {
            "0": f"8 neurons, {BOTH}",
            "2": f"5 neurons, {BOTH}",
            "4": f"4 neurons, {BOTH}",
        },
    ),
    "weight norm, as a hook": (
        normed(hooked), VECTOR,
        {
            "0": f"8 neurons, {BOTH}",
            "2": f"5 neurons, {BOTH}",
            "4": f"4 neurons, {BOTH}",
        },
    ),
    "weight norm of convolutions (WaveNet, HiFi-GAN)": (
        vocoder(weight_norm), IMAGE,
        {
            "0": f"4 sets of 2 channels, {BOTH}",
            "2": f"3 sets of 2 channels, {BOTH}", "4": f"4 channels, {BOTH}",
        },
    ),
    "a gain and an offset in a subclass": (
        lambda: nn.Sequential(Shifted(6, 8), nn.ReLU(), Shifted(8, 8), nn.ReLU(), Linear(8, 2)),
        VECTOR, {"0": f"8 neurons, {BOTH}", "2": f"8 neurons, {BOTH}"},
    ),
}  # fmt: skip
