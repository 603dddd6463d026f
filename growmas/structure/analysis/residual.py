"""The residual stream: can a width that passes norms over all channels grow without a change?

The residual stream of a pre-norm transformer is a sum of what linear layers give, and other layers
read it only through a LayerNorm or RMSNorm. A fresh channel that every norm turns into zero can
then be added: the mean of the others before a LayerNorm, zero before an RMSNorm (see `widening`).
This module checks that everything the channels of a group meet on their way is of that kind.

A worked example, the block x + down(up(norm(x)).relu()) behind an embedding, and a head:

    point       gives  reads  what is checked                                      behind a norm
    embed       yes    no     its rows are weights, so their mean can be a row     no
    down        yes    no     the same                                             no
    Add         yes    no     a sum of means is the mean of sums; both not normed  no
    norm        yes    no     takes the stream, not something normed before        norm
    up          no     yes    reads behind `norm`, where the fresh channel is zero
    head norm   yes    no                                                          head norm
    head        no     yes    reads behind `head norm`

The residual kind is "mean". A ReLU between the sum and the norm would be an obstacle, since the
mean of rectified channels is not the rectified mean, and so would be a layer that reads the stream
without a norm: its input would change.

A layer scale, x + γ · down(…), takes part as well: the mean of the others is then the mean of
γ_i times the rows of `down`, and the fresh entry of γ is 1.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from growmas.structure.layers.axes import LayerAxes
from growmas.structure.units.groups import Residual

_ADDS = frozenset({"Add", "Sub"})
_JOINS = frozenset({"Cat", "Stack"})
_SCALES = frozenset({"Mul", "Div"})
_KEEPS = frozenset({
    "AdaptiveAvgPool2D", "Alias", "AvgPool1D", "AvgPool2D", "Clone", "ConstantPadNd", "Expand",
    "Flip", "Gather", "Index", "IndexSelect", "Mean", "Neg", "Permute", "Repeat", "ReshapeAlias",
    "Roll", "Select", "Slice", "Split", "SplitWithSizes", "Squeeze", "Sum", "T", "ToCopy",
    "Transpose", "Unbind", "UnsafeView", "Unsqueeze", "View",
})  # fmt: skip
"""Operations that are linear in the channels and treat them alike."""

_ZERO_AT_ZERO = frozenset({
    "Elu", "Gelu", "Hardswish", "LeakyRelu", "Mish", "Silu", "Softsign", "Tanh",
})  # fmt: skip
"""Functions of single entries that are zero at zero, with a slope: ReLU has none there."""


@dataclass(frozen=True)
class Point:
    """A layer, a parameter or an operation that a group's channels come from, pass, or go to.

    Attributes:
        key: Stands for it among the `given` of others.
        layer: Qualified name of a layer or a parameter; "" for an operation.
        axes: Axes of a layer; None for an operation and for a parameter.
        operation: Name of an operation.
        gives: True if its output holds channels of the group.
        reads: True if it makes other channels of them.
        given: Where its inputs come from, in order: the key of what holds channels of the
            group, None for anything else.
    """

    key: Hashable
    layer: str
    axes: LayerAxes | None
    operation: str
    gives: bool
    reads: bool
    given: tuple[Hashable | None, ...]


@dataclass(frozen=True)
class ResidualKind:
    """The fresh channels of a residual path.

    Attributes:
        start: What they are before the norms, or "".
        why_not: Why there is no such thing, or nothing.
        scales: Layer that adds to the path -> the parameter that what it gives is multiplied by.
    """

    start: Residual
    why_not: str = ""
    scales: Mapping[str, str] = field(default_factory=dict)


def residual_kind(points: Sequence[Point]) -> ResidualKind:
    """Return what a fresh channel has to be.

    Args:
        points: All points of a group, those that give first.
    """
    scales = _Scales(points)
    if scales.why_not:
        return ResidualKind("", scales.why_not)
    start, why_not = _start(points, scales)
    return ResidualKind(start, why_not, scales.of_layer if start else {})


class _Scales:
    """Parameters that the outputs of single layers are multiplied by.

    Attributes:
        of_layer: Layer -> the parameter.
        products: Keys of the products of a parameter and what layers give.
        why_not: Why a layer has several, or nothing.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self.of_layer: dict[str, str] = {}
        self.products: set[Hashable] = set()
        self.why_not = ""
        parameters = {p.key: p.layer for p in points if p.layer and p.axes is None}
        norms = {p.layer for p in points if p.axes is not None and p.axes.norm}
        given: dict[Hashable, frozenset[tuple[str, str]]] = {}
        for point in points:
            if point.layer and point.gives:
                given[point.key] = frozenset({(point.layer, "")})
        used: set[tuple[str, str]] = set()
        for point in points:
            keys = [key for key in point.given if key is not None]
            read = frozenset().union(*(given.get(key, frozenset()) for key in keys))
            if point.layer:
                used |= read
                continue
            scale = [key for key in keys if key in parameters]
            if point.operation == "Mul" and len(keys) == 2 and len(scale) == 1:
                other = given.get(next(k for k in keys if k != scale[0]), frozenset())
                layers = {layer for layer, _ in other}
                if layers and not layers & {*parameters.values(), *norms}:
                    self.products.add(point.key)
                    read = frozenset((layer, parameters[scale[0]]) for layer in layers)
                    if any(already for _, already in other):
                        self.why_not = "what it gives is scaled twice"
            elif point.operation in _ADDS | _JOINS:
                used |= read
            given[point.key] = read
        for layer, parameter in sorted(used):
            if self.of_layer.setdefault(layer, parameter) != parameter:
                self.why_not = f"what {layer!r} gives is scaled in some places, not in others"
        self.of_layer = {layer: name for layer, name in self.of_layer.items() if name}


def _start(points: Sequence[Point], scales: _Scales) -> tuple[Residual, str]:
    """Return what a fresh channel has to be, or "" and why there is no such thing."""
    norms = {p.layer: p.axes.norm for p in points if p.axes is not None and p.axes.norm}
    centred = [name for name, norm in norms.items() if norm.centred]
    others = [name for name, norm in norms.items() if not norm.centred]
    if centred and others:
        return "", f"{centred[0]!r} takes the mean off and {others[0]!r} does not"
    residual: Residual = "mean" if centred else "zero"
    behind: dict[Hashable, str] = {}
    for point in points:
        if point.layer and point.gives:
            reason = "" if point.layer in norms else _not_linear(point)
            if reason:
                return "", reason
            behind[point.key] = point.layer if point.layer in norms else ""
    for point in points:
        if not point.layer:
            inputs = [behind.get(key, "") for key in point.given if key is not None]
            scaled = point.key in scales.products
            reason = "" if scaled else _not_kept(point, inputs, residual)
            if reason:
                return "", reason
            behind[point.key] = next(iter(inputs), "")
    if residual == "mean":
        for point in points:
            reason = _wrong_input(point, behind, point.layer in norms)
            if reason:
                return "", reason
    return residual, ""


def _not_linear(point: Point) -> str:
    """Return why what a layer gives is not linear in the rows of its units, or nothing."""
    if any(key is not None for key in point.given) and not point.reads:
        return f"{point.layer!r} works on its single channels"
    axes = point.axes.out if point.axes is not None else ()
    if any(axis.role != "out" or axis.blocks > 1 for axis in axes):
        return f"what {point.layer!r} gives is not linear in its weights"
    return ""


def _not_kept(point: Point, norms: list[str], residual: Residual) -> str:
    """Return why fresh channels do not stay a mean or zero in an operation, or nothing.

    Args:
        point: The operation.
        norms: For each of its inputs that holds channels of the group, the norm it is behind.
        residual: What fresh channels are before the norms.
    """
    alone = len(norms) == len(point.given)
    zero = residual == "zero" or all(norms)
    if point.operation in _ADDS | _JOINS:
        if residual == "mean" and any(norms) and not all(norms):
            norm = next(filter(None, norms))
            return f"what {norm!r} gives is added to something else, as in a post-norm transformer"
        # the same number added to all channels moves their mean with them, but no zero stays zero
        if zero and not alone and point.operation in _ADDS:
            return "something of another width is added to its channels"
        return ""
    if point.operation in _SCALES:
        # of two factors that both hold channels, both would be zero, and so would their gradients
        fine = len(norms) == 1 and (point.operation == "Mul" or point.given[0] is not None)
    else:
        fine = point.operation in _KEEPS or (
            residual == "zero" and point.operation in _ZERO_AT_ZERO and not any(norms)
        )
    return "" if fine else f"its channels go through {point.operation!r}, which is not linear"


def _wrong_input(point: Point, behind: dict[Hashable, str], is_norm: bool) -> str:
    """Return why fresh channels are not what a layer needs to get, or nothing."""
    norms = [behind.get(key, "") for key in point.given if key is not None]
    if is_norm and any(norms):
        return f"{point.layer!r} norms what {next(filter(None, norms))!r} has normed"
    if point.reads and not all(norms):
        return f"{point.layer!r} reads it without a norm between"
    return ""
