"""Links: how channels get from one node of the traced graph to the next.

A worked example, a sum of two inputs of which one is broadcast, x + mask with x: [N, 3, 4, 4] and
mask: [N, 1, 4, 4]. The labels of the output are those of `x`, which has channels along an axis:

    from x      mapping one by one
    from mask   down: "its only channel is spread over 3 others"; up: nothing

So a walk from the layer that gives the mask ends here, and a walk from that of `x` goes on.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from growmas.structure.analysis.labels import (
    IndexMapping,
    Indices,
    Labels,
    Shape,
    distinct,
    merged,
    varying,
)
from growmas.structure.analysis.outcomes import (
    OverChannels,
    PairedChannels,
    Propagation,
    SharedChannels,
)
from growmas.structure.analysis.products import PRODUCTS
from growmas.structure.analysis.propagation import propagate

Node = Any
"""A node of torch-pruning's graph, a layer or an operation; or an `UnwrappedParameter`."""


@dataclass(frozen=True, eq=False)
class Link:
    """The way of channels from one node to the next.

    Attributes:
        mappings: Which belong together, for every way from one to the other; None: one by one.
        down: Why the first node's channels cannot be followed to the second, or nothing.
        up: Why the second node's channels cannot be followed to the first, or nothing.
        mixed: Why a channel more or less changes the others behind, or nothing.
        stuck: Why some of the first node's channels cannot change, though others can, or nothing.
        channels: These channels.
    """

    mappings: tuple[IndexMapping | None, ...] = ()
    down: str = ""
    up: str = ""
    mixed: str = ""
    stuck: str = ""
    channels: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __add__(self, other: "Link") -> "Link":
        """Join two links between the same nodes."""
        return Link(
            self.mappings + other.mappings,
            self.down or other.down,
            self.up or other.up,
            self.mixed or other.mixed,
            self.stuck or other.stuck,
            np.union1d(self.channels, other.channels),
        )


def lost(reason: str, up: str = "") -> Link:
    """Return the link of an input whose channels are lost: an obstacle, a mixture, or apart."""
    if isinstance(reason, PairedChannels):
        return Link()
    if isinstance(reason, SharedChannels):
        return Link(stuck=reason, channels=distinct(reason.labels.ravel()))
    if isinstance(reason, OverChannels):
        return Link(mixed=reason, up=up)
    return Link(down=reason, up=up)


@dataclass(frozen=True, eq=False)
class Operand:
    """One input of a layer or an operation.

    Attributes:
        node: The node that gives it; None for a leaf of the autograd graph.
        shape: Its shape.
        labels: Its labels, or why it has no channels to follow.
        unwrapped: Of what is made of parameters used outside their layers, and nothing else: why
            it cannot be followed where it meets no channels; else nothing.
        constant: True for what is made of buffers alone: it follows channels that it lies along
            one by one, and does not hold any others fast.
    """

    node: Node | None
    shape: Shape
    labels: Labels | str
    unwrapped: str = ""
    constant: bool = False


@dataclass(frozen=True, eq=False)
class UnwrappedParameter:
    """A parameter or buffer used outside a layer; every entry is a channel until it meets others.

    Attributes:
        tensor: The parameter or buffer.
        inputs: Empty.
        outputs: The operations that read it.
        module: None, as for an operation.
    """

    tensor: Tensor
    inputs: tuple[Node, ...] = ()
    outputs: list[Node] = field(default_factory=list)
    module: None = None

    @property
    def labels(self) -> Labels:
        """The number of every entry."""
        shape = tuple(self.tensor.shape)
        return np.arange(self.tensor.numel(), dtype=np.int64).reshape(shape)


@dataclass(frozen=True, eq=False)
class Meeting:
    """The channels of queries and keys that meet one by one in a product over all of them.

    Attributes:
        inputs: The nodes that give queries and keys.
        keys: The channel of the keys' node at every place.
        outputs: Empty.
        module: None, as for an operation.
    """

    inputs: tuple[Node, Node]
    keys: Indices
    outputs: tuple[Node, ...] = ()
    module: None = None


@dataclass(frozen=True)
class LayerWays:
    """Role of a layer in the flow.

    Attributes:
        axis: The axis of the output that carries the layer's channels, "" if that along which
            they came in, or why there is none.
        name: Name of the layer.
        windows: True if the layer runs over windows along its other axes, as a convolution.
        channels: The number of channels that a layer reads which keeps them apart.
        spread: How many channels such a layer gives for one.
        operand: The number of the only input that a layer reads; None: all that are not parameters.
    """

    axis: int | str
    name: str = ""
    windows: bool = False
    channels: int = 0
    spread: int = 1
    operand: int | None = None


def follow(function: Any, index: int, operand: Operand) -> Propagation | str:
    """Follow one input of an operation.

    Parameters alone lose the axes that the operation changes, where that can be seen: what is the
    same for all their entries, such as a table of positions resampled to a grid, stays.
    """
    if isinstance(operand.labels, str):
        return operand.labels
    step = propagate(function, index, operand.labels, operand.shape)
    if isinstance(step, Propagation) or not operand.unwrapped:
        return step
    for axis in varying(operand.labels):
        kept, mapping = merged(operand.labels, (axis,))
        if varying(kept):
            step = propagate(function, index, kept, operand.shape)
            if isinstance(step, Propagation):
                return Propagation(step.labels, mapping.then(step.mapping))
    return operand.unwrapped


def pairing(operand: Operand, step: Propagation, base: Labels, name: str) -> Link:
    """Pair the channels of one input with those that the output has."""
    labels, mapping = step.labels, step.mapping
    if labels is base:
        return Link((mapping,), mixed=step.mixed)
    if varying(base) and not varying(labels):
        # a scalar, or a mask over all channels: it follows nothing, and nothing follows it
        spread = max(base.shape)
        return Link(
            down=operand.unwrapped or f"its only channel is spread over {spread} others ({name})"
        )
    strange = [axis for axis in varying(labels) if base.shape[axis] == 1]
    if strange and operand.unwrapped:
        kept, others = merged(labels, strange)
        labels, mapping = kept, mapping.then(others) if mapping else others
        strange = [] if varying(kept) else strange
    if strange:
        why = operand.unwrapped or "channels that lie along different axes meet"
        if name in PRODUCTS:
            return Link(stuck=why, channels=distinct(np.ravel(operand.labels)))
        return Link(down=why, up="" if is_apart(operand.shape, base) else why)
    pairs = IndexMapping.between(labels, base)
    return Link((mapping.then(pairs) if mapping else pairs,), mixed=step.mixed)


def richest(labels: list[Labels]) -> Labels | None:
    """Return those with channels along most axes; of several, the foremost axes, then the first."""
    return max(
        labels, key=lambda each: (len(varying(each)), [-a for a in varying(each)]), default=None
    )


def varies(operand: Operand, axis: int) -> bool:
    """Return True if channels of a layer lie along that axis of an input."""
    labels = operand.labels
    return isinstance(labels, np.ndarray) and not operand.unwrapped and labels.shape[axis] > 1


def is_apart(shape: Shape, base: Labels) -> bool:
    """Return True if an input of that shape has nothing to do with the single channels."""
    lacking = base.ndim - len(shape)
    return all(axis < lacking or shape[axis - lacking] == 1 for axis in varying(base))


def is_paired(link: Link, base: Labels) -> bool:
    """Return True if a link pairs channels, and none of one side with several along an axis.

    A table with an entry for each channel of a head, the same for all heads, is not paired with
    heads; one with an entry for each head is not paired with the channels of a head.
    """
    pairs = [mapping for mapping in link.mappings if mapping is not None]
    if not pairs or link.down or link.up:
        return False
    inputs = np.concatenate([mapping.inputs for mapping in pairs])
    several = len(varying(base)) > 1
    return not several or len(np.unique(inputs)) == len(inputs)


def is_shared(labels: Labels | str, base: Labels) -> bool:
    """Return True if a factor of a product is the same for all channels of the output."""
    if isinstance(labels, str):
        return False
    return all(labels.shape[axis - base.ndim] == 1 for axis in varying(base))
