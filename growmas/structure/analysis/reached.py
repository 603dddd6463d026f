"""The reach of a walk: everything that moves with the channels of a layer, module by module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from growmas.structure.analysis.attributes import Counted, Entry
from growmas.structure.analysis.labels import Indices, Labels
from growmas.structure.analysis.residual import Point
from growmas.structure.layers.axes import Side


@dataclass(frozen=True, eq=False)
class AttributeAlong:
    """An attribute that is the length of an axis which channels lie along.

    Attributes:
        module: The module that has it.
        name: Its name.
        channels: Channels of the root at every entry, length 1 along axes without any; −1: none.
        axis: The axis.
        entry: Which entry of the attribute it is, where it has several.
    """

    module: nn.Module
    name: str
    channels: Labels
    axis: int
    entry: Entry = None


@dataclass(frozen=True)
class Reached:
    """Everything that moves with the output channels of a layer.

    Attributes:
        layers: (layer, side) -> for every position the channel of the root that moves with it,
            −1 for none; the root comes first. What keeps channels apart has only "out".
        reads: (layer, "out") -> positions of keys, which read the queries that they meet.
        parameters: The same for the entries of parameters and buffers used outside their layers,
            by qualified name.
        factors: Those of them that are not just added to something.
        together: [n, 2] channels of the root that belong together.
        splits: Channels of the root along the axes that a reshape makes of one.
        obstacle: Why they cannot move, or nothing.
        mixed: Why a channel more or less changes the others, or nothing.
        stuck: Channels of the root that cannot change, though others can.
        why_stuck: Why they cannot, or nothing.
        why_parameters: Why such a parameter holds the channels fast where it cannot be resized.
        attributes: Channels of the root along the axes whose lengths are attributes of modules.
        counted: Attributes that the code multiplies: module, name, entry.
        heads: True if the channels take part in attention.
        points: Gives all that they meet, what gives before what reads.
        gives_lengths: Numbers of the lengths that the code reads from them.
        takes_lengths: Numbers of the lengths of other tensors that the code gives to them.
    """

    layers: Mapping[tuple[nn.Module, Side], Indices]
    reads: Mapping[tuple[nn.Module, Side], Indices]
    parameters: Mapping[str, Indices]
    factors: frozenset[str]
    together: Indices
    splits: tuple[Labels, ...]
    obstacle: str
    mixed: str
    stuck: Indices
    why_stuck: str
    why_parameters: str
    attributes: tuple[AttributeAlong, ...]
    counted: Counted
    heads: bool
    points: Callable[[], tuple[Point, ...]]
    gives_lengths: frozenset[int]
    takes_lengths: frozenset[int]
