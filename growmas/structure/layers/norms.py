"""Norms over all channels, described by a few attributes; custom modules can be registered."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from growmas.structure.layers.axes import LayerAxes, Size, TensorAxis, register_layer
from growmas.structure.layers.normalisation import Normalisation

STATISTICS = "its statistics run over all channels"


def register_norm(
    layer: type[nn.Module] | str,
    *,
    centred: bool,
    eps: str = "eps",
    gain: str = "weight",
    bias: str = "bias",
    sizes: Sequence[Size] = (),
) -> None:
    """Let norms of exactly that type be widened with the residual path that they normalise.

    Args:
        layer: The class, or "module.ClassName" for a package that need not be installed.
        centred: True if the mean is subtracted (LayerNorm), False if not (RMSNorm).
        eps: The attribute ε in γ · (x − x̄) / √(v + ε) + β.
        gain: The parameter γ, one number for each channel along the last axis of the input.
        bias: The parameter β; it may be absent.
        sizes: Attributes that hold the number of channels.

    Example:
        >>> import torch, growmas
        >>> from growmas.structure import register_norm
        >>> class RootMeanSquare(torch.nn.Module):
        ...     def __init__(self, width):
        ...         super().__init__()
        ...         self.gain, self.small = torch.nn.Parameter(torch.ones(width)), 1e-6
        ...     def forward(self, x):
        ...         return self.gain * x * (x.square().mean(-1, keepdim=True) + self.small).rsqrt()
        >>> register_norm(RootMeanSquare, centred=False, gain="gain", eps="small")
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), RootMeanSquare(8), torch.nn.Linear(8, 2))
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> edit = structure.apply(growmas.Plan(grow={"0": 8}))
        >>> len(net[1].gain), net[1].small
        (16, 5e-07)
    """
    axes = norm_axes(centred=centred, eps=eps, gain=gain, bias=bias, sizes=sizes)
    register_layer(layer, axes)


def norm_axes(
    *,
    centred: bool,
    eps: str = "eps",
    gain: str = "weight",
    bias: str = "bias",
    sizes: Sequence[Size] = (),
    length: Callable[[Any], int] | None = None,
    along: int = -1,
) -> LayerAxes:
    """Return the axes of a norm over all channels.

    Args:
        centred: True if the mean is subtracted (LayerNorm), False if not (RMSNorm).
        eps: The attribute ε in γ · (x − x̄) / √(v + ε) + β.
        gain: The parameter γ, one number for each channel.
        bias: The parameter β; it may be absent.
        sizes: Attributes that hold the number of channels.
        length: Function from the module to its number of channels, if there may be no gain.
        along: The axis of the input along which the channels lie.
    """
    width = length or (lambda module: len(getattr(module, gain)))
    return LayerAxes(
        out=(TensorAxis(gain, 0, "norm", 1.0), TensorAxis(bias, 0, "norm", 0.0)),
        out_size=tuple(sizes),
        length=lambda module, side: width(module),
        along=along,
        no_shrink=STATISTICS,
        no_grow=STATISTICS,
        norm=Normalisation(centred, gain, eps),
        approximate=True,
    )
