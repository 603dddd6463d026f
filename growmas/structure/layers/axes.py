"""Which axis of which tensor carries a layer's channels: one short entry per layer type.

A layer has two sides: "out", the channels it gives, and "in", the channels it reads. A layer that
keeps channels apart, such as a norm or a depthwise convolution, has only the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

Side = str
"""A side of a layer: "out", the channels it gives, "in", those it reads, or the name of a parameter
that a module uses outside any layer, whose entries then go by its own axes."""

Role = Literal["out", "in", "norm"]


@dataclass(frozen=True)
class TensorAxis:
    """One axis of one tensor of a layer.

    Attributes:
        tensor: Name of the parameter or buffer in the layer; it may be absent (bias=False).
        dim: The axis.
        role: What a fresh entry is: "out" a producer's row (initialised), "in" a consumer's
            column (zero), "norm" a constant.
        fresh: The constant for role "norm".
        blocks: How often the channels follow each other on the axis (the gates of an LSTM: 4).
        shared: In how many equal parts of the channels the axis is shared (the input channels
            of a convolution with G groups: G); a unit then holds the same place in every part.
    """

    tensor: str
    dim: int
    role: Role
    fresh: float = 0.0
    blocks: int = 1
    shared: int = 1

    def source(self, source: Tensor, length: int) -> Tensor:
        """From the new order of the channels to that of this axis.

        Args:
            source: [new channels], old channel or −1.
            length: Number of old channels.
        """
        if self.shared > 1:
            return source[: len(source) // self.shared]
        if self.blocks == 1:
            return source
        offsets = torch.arange(self.blocks).repeat_interleave(len(source)) * length
        repeated = source.repeat(self.blocks)
        return torch.where(repeated < 0, repeated, repeated + offsets)

    def positions(self, channels: Tensor, length: int) -> Tensor:
        """Where channels [..., m] lie on this axis, [..., m'].

        Args:
            channels: Channel numbers.
            length: Number of channels of the side.
        """
        if self.shared > 1:
            part = length // self.shared
            return channels[..., : channels.shape[-1] // self.shared] % part
        if self.blocks == 1:
            return channels
        return torch.cat([channels + block * length for block in range(self.blocks)], dim=-1)


@dataclass(frozen=True)
class Size:
    """One attribute of a layer that says how many channels there are.

    Attributes:
        name: The attribute.
        value: (layer as it is, new number of channels) -> new value; the number itself if None.
    """

    name: str
    value: Callable[[Any, int], Any] | None = None


@dataclass(frozen=True)
class Normalisation:
    """Says that a layer norms every position over all its channels: γ · (x − x̄) / √(v + ε) + β.

    Attributes:
        centred: True for a LayerNorm; False for an RMSNorm, where x̄ = 0 and v is the mean square.
        gain: The parameter γ, which multiplies. (1 + γ) instead of γ is another kind of norm.
        eps: The attribute ε.
    """

    centred: bool
    gain: str
    eps: str


@dataclass(frozen=True)
class LayerAxes:
    """The axes of one layer.

    Attributes:
        out: Axes along which the output channels lie.
        into: Axes along which the input channels lie.
        out_size: Attributes that hold the number of output channels.
        in_size: Attributes that hold the number of input channels.
        out_tie: Channels of the output that are cut into equal runs stay together in them, as
            in GroupNorm: the run's length. 1 where channels are free.
        out_parts: The output falls into that many equal parts that stay equal (grouped
            convolution).
        in_parts: The same for the input.
        unit: What one output channel is called.
        length: (layer, side) -> number of channels; by default the first size of the side.
        along: The axis of the output along which its channels lie. By default it is the last;
            for a layer that keeps channels apart, the one along which they came.
        spread: How many channels a layer gives for each that it reads, where it keeps channels
            apart (a depthwise convolution with a multiplier).
        no_shrink: Why output channels cannot be removed without changing the function of the
            others, or nothing.
        no_grow: Why none can be added without changing the function, or nothing.
        norm: For a norm over all channels: which. Its channels can then be added where all that
            happens to them before and behind is known, `no_grow` notwithstanding.
    """

    out: tuple[TensorAxis, ...]
    into: tuple[TensorAxis, ...] = ()
    out_size: tuple[Size, ...] = ()
    in_size: tuple[Size, ...] = ()
    out_tie: int = 1
    out_parts: int = 1
    in_parts: int = 1
    unit: str = "channels"
    length: Callable[[Any, Side], int] | None = None
    along: int | None = None
    spread: int = 1
    no_shrink: str = ""
    no_grow: str = ""
    norm: Normalisation | None = None

    def side(self, side: Side) -> tuple[TensorAxis, ...]:
        """Return the axes of that side."""
        return self.into if side == "in" else self.out

    def sizes(self, side: Side) -> tuple[Size, ...]:
        """Return the attributes of that side."""
        return self.in_size if side == "in" else self.out_size

    def channels(self, module: nn.Module, side: Side) -> int:
        """How many channels the layer has on that side."""
        if self.length is not None:
            return self.length(module, side)
        return int(getattr(module, self.sizes(side)[0].name))

    @property
    def produces(self) -> bool:
        """Whether the layer makes channels of its own, so that units can be named after it."""
        return any(axis.role == "out" for axis in self.out)


Axes = LayerAxes | str | Callable[[Any], LayerAxes | str]
"""The axes of a layer type, or how to tell them from the layer; text: why it cannot be resized."""

LAYERS: dict[type[nn.Module] | str, Axes] = {}


def register_layer(layer: type[nn.Module] | str, axes: Axes) -> None:
    """Let layers of that type, and of its subclasses without an entry of their own, be resized.

    Args:
        layer: The class, or "module.ClassName" for a package that need not be installed.
        axes: Its axes, or a function from the layer to its axes.

    Example:
        >>> from growmas.structure import LayerAxes, Size, TensorAxis, register_layer
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self, channels):
        ...         super().__init__()
        ...         self.channels = channels
        ...         self.gain = torch.nn.Parameter(torch.ones(channels))
        ...     def forward(self, x):
        ...         return x * self.gain
        >>> register_layer(Scale, LayerAxes(
        ...     out=(TensorAxis("gain", 0, "norm", 1.0),), out_size=(Size("channels"),)))
    """
    LAYERS[layer] = axes


def is_registered(layer: type[nn.Module]) -> bool:
    """Return True if layers of that type, or of a class it is derived from, are registered."""
    return registered_class(layer) is not None


def registered_class(layer: type[nn.Module]) -> type | None:
    """Return the nearest class in the method resolution order that is registered."""
    for kind in layer.__mro__:
        if kind in LAYERS or qualified_name(kind) in LAYERS:
            return kind
    return None


def axes_of(module: nn.Module) -> LayerAxes | None:
    """Return the axes of a layer, or None where it cannot be resized."""
    axes = _registered(module)
    return axes if isinstance(axes, LayerAxes) else None


def why_fixed(module: nn.Module) -> str:
    """Return why a layer without axes cannot be resized."""
    axes = _registered(module)
    if isinstance(axes, str):
        return axes
    return f"register_layer tells growmas the axes of a {class_name(module)}"


def class_name(module: nn.Module) -> str:
    """Name the class of a layer, and the registered one that it is derived from."""
    kind, known = type(module), registered_class(type(module))
    name = _short_name(kind)
    return name if known in (None, kind) else f"{name}, a subclass of {_short_name(known)}"


def _registered(module: nn.Module) -> LayerAxes | str | None:
    kind = registered_class(type(module))
    if kind is None:
        return None
    axes = LAYERS.get(kind, LAYERS.get(qualified_name(kind)))
    try:
        found = axes(module) if callable(axes) else axes
    except AttributeError as error:
        if kind is type(module):
            raise
        return f"{class_name(module)} is unlike it: {error}"
    if kind is type(module) or not isinstance(found, LayerAxes) or found.into:
        return found
    # a subclass of a norm may norm along another axis: it is that along which the channels come
    return replace(found, along=None)


def _short_name(kind: type | None) -> str:
    if kind is None:
        return ""
    module = kind.__module__
    return (
        f"nn.{kind.__name__}" if module.startswith("torch.nn.") else f"{module}.{kind.__qualname__}"
    )


def qualified_name(kind: type) -> str:
    """Return the name of a class in the registries, for which it need not be imported."""
    return f"{kind.__module__}.{kind.__qualname__}"
