"""Networks with response norms, whose channels meet in a mean or a sum; named after their source.

The form is that of `wirings.NETWORKS`: how it is built, the shape of its input, and its groups.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from wirings import IMAGE, SHRINKS, TOKENS, VECTOR, Conv, Linear, Net, parameter


class Response(nn.Module):
    """ConvNeXt V2's GRN, over the positions of images with channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = parameter(1, 1, 1, width), parameter(1, 1, 1, width)

    def forward(self, x: Tensor) -> Tensor:
        size = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        return self.gamma * (x * size / (size.mean(-1, keepdim=True) + 1e-6)) + self.beta + x


class ImageResponse(nn.Module):
    """timm.layers.GlobalResponseNorm with channels first, and an ε that is an attribute."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.eps, self.width = 1e-3, width
        self.weight, self.bias = parameter(width), parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=(2, 3), keepdim=True)
        size = size / (size.mean(1, keepdim=True) + self.eps)
        weight, bias = (t.view(1, self.width, 1, 1) for t in (self.weight, self.bias))
        return x + torch.addcmul(bias, weight, x * size)


class TokenResponse(nn.Module):
    """The same over tokens, without an offset (the AudioMAE and speech variants)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = parameter(1, 1, width)

    def forward(self, x: Tensor) -> Tensor:
        size = x.abs().amax(1, keepdim=True)
        return x * (1 + self.gain * size / (size.mean(-1, keepdim=True) + 1e-6))


class Share(nn.Module):
    """Each channel as a share of their sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x / (x.square().sum(-1, keepdim=True) + 0.5)


class Rooted(nn.Module):
    """A response norm whose gradient at a channel of zeros is not a number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = parameter(1, width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.square().sum((2, 3), keepdim=True).sqrt()
        return x + self.gain * x * size / (size.mean(1, keepdim=True) + 1e-6)


def last(m: Net, x: Tensor) -> Tensor:
    y = m.b(m.norm(m.act(m.a(x.permute(0, 2, 3, 1)))))  # type: ignore[operator]
    return y.permute(0, 3, 1, 2)


GROWS = f"grows and {SHRINKS}"
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "response norm, channels last (ConvNeXt V2)": (
        lambda: Net(last, a=Linear(3, 8), act=nn.GELU(), norm=Response(8), b=Linear(8, 2)),
        IMAGE, {"a": f"8 neurons, {GROWS}"},
    ),
    "response norm, channels first (timm GlobalResponseNorm)": (
        lambda: nn.Sequential(Conv(3, 8, 1), nn.SiLU(), ImageResponse(8), Conv(8, 2, 3)),
        IMAGE, {"0": f"8 channels, {GROWS}"},
    ),
    "response norm behind a ReLU, which has no slope at zero": (
        lambda: nn.Sequential(Conv(3, 8, 1), nn.ReLU(), ImageResponse(8), Conv(8, 2, 3)),
        IMAGE, {"0": f"8 channels, {SHRINKS}"},
    ),
    "response norm over tokens": (
        lambda: nn.Sequential(Linear(8, 6), nn.Tanh(), TokenResponse(6), Linear(6, 2)),
        TOKENS, {"0": f"6 neurons, {GROWS}"},
    ),
    "channels as shares of their sum": (
        lambda: nn.Sequential(Linear(6, 8), Share(8), Linear(8, 2)),
        VECTOR, {"0": f"8 neurons, {GROWS}"},
    ),
    "response norm with a root that has no slope at zero": (
        lambda: nn.Sequential(Conv(3, 8, 1), nn.GELU(), Rooted(8), Conv(8, 2, 3)),
        IMAGE, {"0": f"8 channels, {SHRINKS}"},
    ),
}  # fmt: skip
