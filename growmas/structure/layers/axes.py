"""Layer axes: along which axis of which tensor the channels of a layer lie.

A layer has two sides: "out", the channels that it gives, and "in", the channels that it reads. A
layer that keeps its channels apart, such as a norm or a depthwise convolution, has only "out".

A worked example. In this network the unit 1 of the first layer is row 1 of `0.weight`, entry 1 of
`0.bias`, and column 1 of `2.weight`, which reads it:

    >>> from torch import nn
    >>> import growmas.structure.layers.torch_layers  # registers the layers of torch
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> for axis in (*axes_of(net[0]).out, *axes_of(net[2]).into):
    ...     print(axis.tensor, axis.dim, axis.role)
    weight 0 out
    bias 0 out
    weight 1 in

To remove unit 1 and add a fresh one, the channels 0 1 2 become 0 2 −1. That order, `source`, holds
for the channels of the layer. Mostly it holds for the axis of a tensor too; where it does not,
`TensorAxis.source` translates. An LSTM with 3 hidden units has the rows of its four gates one
block after the other, so that each unit has a row in every block:

    >>> rows = axes_of(nn.LSTM(4, 3)).out[0]
    >>> rows.blocks, rows.source(torch.tensor([0, 2, -1]), length=3).tolist()
    (4, [0, 2, -1, 3, 5, -1, 6, 8, -1, 9, 11, -1])

A convolution with G groups has weights for the channels of one group only, because each group of
its input channels is read by its own filters: the axis has 1/G of the entries, and the group's
units are chosen so that the same places go in every group.

    >>> columns = axes_of(nn.Conv2d(6, 4, 3, groups=2)).into[0]
    >>> columns.shared, columns.source(torch.tensor([0, 2, -1, 3, 5, -1]), length=6).tolist()
    (2, [0, 2, -1])
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from growmas.errors import SurgeryError
from growmas.failures import failure
from growmas.structure.layers.asked_once import asked_once
from growmas.structure.layers.class_names import qualified_name, short_name
from growmas.structure.layers.normalisation import Normalisation, RowLengths

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
        role: Start of a fresh entry: "out", a row of a producer, is initialised; "in", a column
            of a consumer, is zero; "norm" is a constant.
        fresh: The constant for role "norm".
        blocks: Number of copies of the channels, one after the other, on the axis (LSTM gates: 4).
        shared: Number of equal parts of the channels that share the axis (the input channels of a
            convolution with G groups: G); a unit then holds the same place in every part.
    """

    tensor: str
    dim: int
    role: Role
    fresh: float = 0.0
    blocks: int = 1
    shared: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no axis has."""
        numbers = (self.dim, self.blocks, self.shared)
        whole = all(type(number) is int for number in numbers)
        if self.role not in get_args(Role) or not whole or self.blocks < 1 or self.shared < 1:
            raise SurgeryError(
                f"{self}: expected a role of {', '.join(map(repr, get_args(Role)))}, a whole "
                "number dim, and whole numbers blocks and shared of 1 or more"
            )

    def source(self, source: Tensor, length: int) -> Tensor:
        """Translate a new order of the channels into the new order of this axis.

        Args:
            source: [new channels], old channel or −1.
            length: Number of old channels.
        """
        if self.shared > 1:
            # All parts move alike, so the first of them gives the order of the axis.
            source, length = source[: len(source) // self.shared], length // self.shared
        if self.blocks == 1:
            return source
        offsets = torch.arange(self.blocks).repeat_interleave(len(source)) * length
        repeated = source.repeat(self.blocks)
        return torch.where(repeated < 0, repeated, repeated + offsets)

    def positions(self, channels: Tensor, length: int) -> Tensor:
        """Return the entries of this axis that channels [..., m] hold, as [..., m'].

        Args:
            channels: Channel numbers.
            length: Number of channels of the side.
        """
        if self.shared > 1:
            # A unit holds the same places in every part, and the axis has one part: the first 1/G
            # of the unit's channels say which, whatever part they lie in.
            length //= self.shared
            channels = channels[..., : channels.shape[-1] // self.shared] % length
        if self.blocks == 1:
            return channels
        return torch.cat([channels + block * length for block in range(self.blocks)], dim=-1)


@dataclass(frozen=True)
class Size:
    """An attribute of a layer that depends on its number of channels.

    Attributes:
        name: The attribute.
        value: (layer as it is, new number of channels) -> new value; the number itself if None.
    """

    name: str
    value: Callable[[Any, int], Any] | None = None


@dataclass(frozen=True)
class LayerAxes:
    """The axes of one layer.

    Attributes:
        out: Axes along which the output channels lie.
        into: Axes along which the input channels lie.
        out_size: Attributes that hold the number of output channels.
        in_size: Attributes that hold the number of input channels.
        out_tie: Length of the runs of output channels that must stay together, as the channels of
            one group of a GroupNorm do; 1 where channels are free.
        out_parts: Number of equal parts of the output that stay equal (grouped convolution).
        in_parts: The same for the input.
        unit: Name of the output channels as units, in the plural.
        length: (layer, side) -> number of channels; by default the first size of the side.
        along: The axis of the output along which its channels lie. By default it is the last;
            for a layer that keeps channels apart, the axis along which they came.
        spread: Number of output channels for each input channel, where the layer keeps channels
            apart (a depthwise convolution with a multiplier).
        no_shrink: Reason why output channels cannot be removed without changing the function of the
            others; empty if they can.
        no_grow: Reason why channels cannot be added without changing the function; empty if they
            can.
        norm: The norm over all channels that the layer is, or None. Such a norm can grow, in spite
            of `no_grow`, where everything that happens to its channels before and after is known.
        approximate: True if channels can be removed in spite of `no_shrink` by a plan that says so:
            the layer still works, and its function changes.
        in_no_shrink: Reason why input channels cannot be removed without changing the function, as
            where weights are divided by the deviation of their rows.
        in_no_grow: Reason why none can be added.
        row_lengths: Lengths of rows, which take up that columns come and go; or None.
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
    approximate: bool = False
    in_no_shrink: str = ""
    in_no_grow: str = ""
    row_lengths: RowLengths | None = None

    def side(self, side: Side) -> tuple[TensorAxis, ...]:
        """Return the axes of one side."""
        return self.into if side == "in" else self.out

    def sizes(self, side: Side) -> tuple[Size, ...]:
        """Return the attributes of one side."""
        return self.in_size if side == "in" else self.out_size

    def channels(self, module: nn.Module, side: Side) -> int:
        """Return the number of channels that `module` has on one side."""
        if self.length is not None:
            return self.length(module, side)
        return int(getattr(module, self.sizes(side)[0].name))

    @property
    def produces(self) -> bool:
        """True if the layer makes channels of its own, so that units can be named after it."""
        return any(axis.role == "out" for axis in self.out)


Axes = LayerAxes | str | Callable[[Any], LayerAxes | str]
"""Axes of a layer type, or a function from a layer to them; text says why it cannot be resized."""

LAYERS: dict[type[nn.Module] | str, Axes] = {}


COMPLETIONS: list[Callable[[nn.Module, LayerAxes], LayerAxes]] = []
"""Functions that complete the axes of a subclass with a forward of its own; see `derived`."""

PROBES: list[Callable[[nn.Module], LayerAxes | None]] = []
"""Functions that tell the axes of a module from what it computes; see `probes`."""

_PROBED: WeakKeyDictionary[nn.Module, LayerAxes | None] = WeakKeyDictionary()
"""What was found, so that every module is run only once."""


_MISSING: Any = object()
_FITTING: WeakSet[nn.Module] = WeakSet()
"""Modules whose axes were found to fit, so that every module is compared only once."""


def register_layer(layer: type[nn.Module] | str, axes: Axes) -> None:
    """Let layers of that type, and of its subclasses without an entry of their own, be resized.

    Args:
        layer: The class, or "module.ClassName" for a package that need not be installed.
        axes: Its axes, or a function from the layer to its axes. Axes that do not fit the tensors
            of a layer are the reason why that layer is in `Structure.fixed`.

    Raises:
        SurgeryError: The axes are something else.

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
    if not (isinstance(axes, LayerAxes | str) or callable(axes)):
        raise SurgeryError(
            f"register_layer({layer!r:.80}, {axes!r:.80}): expected LayerAxes(...), a function "
            "from the layer to them, or a text that says why it cannot be resized"
        )
    LAYERS[layer] = axes
    _FITTING.clear()


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
    """Return the axes of a layer, or None if it cannot be resized."""
    axes = asked_once(module, _registered)
    return axes if isinstance(axes, LayerAxes) else None


def why_fixed(module: nn.Module) -> str:
    """Return the reason why a layer without axes cannot be resized."""
    axes = asked_once(module, _registered)
    if isinstance(axes, str):
        return axes
    return f"register_layer tells growmas the axes of a {class_name(module)}"


def class_name(module: nn.Module) -> str:
    """Name the class of a layer, and the registered one that it is derived from."""
    kind, known = type(module), registered_class(type(module))
    name = short_name(kind)
    return name if known in (None, kind) else f"{name}, a subclass of {short_name(known)}"


def is_layer(module: nn.Module) -> bool:
    """Return True if a module is registered, or known by what it computes."""
    return is_registered(type(module)) or probed_axes(module) is not None


def probed_axes(module: nn.Module) -> LayerAxes | None:
    """Return the axes of a layer that is known by what it computes, or None."""
    if module not in _PROBED:
        _PROBED[module] = next(filter(None, (probe(module) for probe in PROBES)), None)
    return _PROBED[module]


def _registered(module: nn.Module) -> LayerAxes | str | None:
    kind = registered_class(type(module))
    if kind is None:
        return probed_axes(module)
    axes = LAYERS.get(kind, LAYERS.get(qualified_name(kind)))
    try:
        found = axes(module) if callable(axes) else axes
    except Exception as error:
        if kind is not type(module) and isinstance(error, AttributeError):
            return f"{class_name(module)} is unlike it: {error}"
        return f"the function registered for a {class_name(module)} fails ({failure(error)})"
    if not isinstance(found, LayerAxes | str):
        return (
            f"the function registered for a {class_name(module)} returned {found!r:.80}: expected "
            "LayerAxes"
        )
    if isinstance(found, LayerAxes) and module not in _FITTING:
        problem = _misfit(module, found)
        if problem:
            return f"the axes registered for a {class_name(module)} do not fit it: {problem}"
        _FITTING.add(module)
    if kind is type(module) or not isinstance(found, LayerAxes):
        return found
    if found.into or found.produces:
        return reduce(lambda axes, complete: complete(module, axes), COMPLETIONS, found)
    # a subclass of a norm may norm along another axis: it is that along which the channels come
    return replace(found, along=None)


def _misfit(module: nn.Module, axes: LayerAxes) -> str:
    """Return why axes do not fit the tensors of a layer, or nothing."""
    return next(_problems(module, axes), "")


def _problems(module: nn.Module, axes: LayerAxes) -> Iterator[str]:
    sides: tuple[tuple[Side, tuple[TensorAxis, ...]], ...] = (("out", axes.out), ("in", axes.into))
    for side, along in sides:
        if not along:
            continue
        try:
            channels = axes.channels(module, side)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            yield (
                f"its number of channels on the side {side!r} is not known ({error}): give a Size "
                "whose name is an attribute of the layer, or length="
            )
            return
        held = {axis.tensor: getattr(module, axis.tensor, _MISSING) for axis in along}
        if module._parameters and all(tensor is _MISSING for tensor in held.values()):
            yield f"it has no tensor {' or '.join(map(repr, held))}"
            return
        for axis in along:
            tensor = held[axis.tensor]
            if isinstance(tensor, Tensor) and not is_lazy(tensor):
                yield from _axis_problem(axis, tensor, channels)


def _axis_problem(axis: TensorAxis, tensor: Tensor, channels: int) -> Iterator[str]:
    if not -tensor.dim() <= axis.dim < tensor.dim():
        yield f"{axis.tensor!r} has {tensor.dim()} axes, and no axis {axis.dim}"
        return
    length, expected = tensor.shape[axis.dim], channels * axis.blocks // axis.shared
    if length != expected:
        yield (
            f"axis {axis.dim} of {axis.tensor!r} has {length} entries, and {channels} channels "
            f"(blocks={axis.blocks}, shared={axis.shared}) take {expected}"
        )
