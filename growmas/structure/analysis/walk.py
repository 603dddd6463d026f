"""The walk from the channels of one layer to everything that moves with them.

Every channel of the layer it starts from has a number. The walk carries the numbers along the
links of the flow, in both directions, and writes down at every side of every layer which number
has arrived at which position. In the network of `flow`, from the two channels of `a`:

    a, out      0 1                    the start
    Relu        0 1                    down, one by one
    View        0 1                    down, one by one
    b, in       0 0 0 0 1 1 1 1        down, to the columns

Where a second number arrives at a position that has one, the two channels belong together, and
the position keeps the first: a walk from two layers that are added up, `a(x) + c(x)`, finds the
rows of `c` going up from the sum, and numbers that meet become one unit. Each position is
written once, so the walk ends on every graph, and its time grows with the number of positions.

The first obstacle ends it: channels that reach the output of the network, or an operation that
they cannot be followed through, hold all others that they belong to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from growmas.structure.analysis.flow import Flow
from growmas.structure.analysis.labels import IndexMapping, Indices, Labels, distinct
from growmas.structure.analysis.links import Link, Meeting, Node, UnwrappedParameter
from growmas.structure.layers.axes import Side
from growmas.structure.units.plan import AT_THE_OUTPUT

NodeSide = tuple[Node, Side]
_NO_PAIRS = np.zeros((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class Walk:
    """Everything that moves with the output channels of a layer.

    Attributes:
        reached: (node, side) -> for every position the channel of the root that has arrived
            there, −1 for none; the root comes first. What keeps channels apart has only "out".
        together: [n, 2] channels of the root that belong together.
        splits: Channels of the root along the axes that a reshape makes of one.
        obstacle: Why they cannot move, or nothing.
        mixed: Why a channel more or less changes the others, or nothing.
        stuck: Channels of the root that cannot change, though others can.
        why_stuck: Why they cannot, or nothing.
        heads: True if the channels take part in attention.
        reads: (node, "out") -> positions of keys, which read the queries that they meet.
    """

    reached: Mapping[NodeSide, Indices]
    together: Indices
    splits: tuple[Labels, ...]
    obstacle: str
    mixed: str
    stuck: Indices
    why_stuck: str
    heads: bool
    reads: Mapping[NodeSide, Indices]

    def layers(self) -> dict[tuple[nn.Module, Side], Indices]:
        """Return the layers among what was reached."""
        return {
            (node.module, side): found
            for (node, side), found in self.reached.items()
            if isinstance(node.module, nn.Module)
        }


class Walker:
    """Walks over the flow of a network."""

    def __init__(
        self,
        flow: Flow,
        ends: set[Node | None],
        two_sided: Mapping[Node, bool],
        ties: Mapping[NodeSide, Sequence[NodeSide]],
    ) -> None:
        """Prepare walks.

        Args:
            flow: The links.
            ends: Nodes that give outputs of the network.
            two_sided: Node -> True for a layer that makes new channels of those it reads.
            ties: Side of a layer -> the sides that share an axis of a tensor with it.
        """
        self._flow = flow
        self._ends = ends
        self._two_sided = two_sided
        self._ties = ties

    def walk(self, root: Node, width: int) -> Walk:
        """Follow the output channels of `root` to everything that moves with them."""
        start = np.arange(width, dtype=np.int64)
        reached: dict[NodeSide, Indices] = {}
        together: list[Indices] = []
        stuck: list[Indices] = [start[:0]]
        obstacle = mixed = why_stuck = ""
        stack: list[tuple[Node, Side, Indices, Indices]] = [(root, "out", start, start)]
        while stack and not obstacle:
            node, side, positions, numbers = stack.pop()
            fresh, pairs = _arrive(reached, (node, side), positions, numbers)
            together.append(pairs)
            if not len(fresh):
                continue
            numbers = reached[node, side][fresh]
            for neighbour, its_side, link, backward, why in self._neighbours(node, side):
                obstacle = obstacle or why
                mixed = mixed or link.mixed
                if link.stuck and not backward:
                    stuck.append(numbers[np.isin(fresh, link.channels)])
                    why_stuck = why_stuck or link.stuck
                for mapping in link.mappings:
                    there, sent = _sent(mapping, fresh, numbers, backward)
                    if len(there):
                        stack.append((neighbour, its_side, there, sent))
        meetings = [node for node, _ in reached if isinstance(node, Meeting)]
        reads: dict[NodeSide, Indices] = {}
        for meeting in () if obstacle else meetings:
            readers = _readers(self._givers(meeting, 0), self._givers(meeting, 1))
            obstacle = obstacle or ("" if readers else "queries and keys are the same channels")
            reads |= {at: np.union1d(held, reads.get(at, held)) for at, held in readers.items()}
        return Walk(
            reached,
            np.concatenate(together),
            () if obstacle else tuple(self._splits(reached)),
            obstacle,
            mixed,
            distinct(np.concatenate(stuck)),
            why_stuck,
            any(node in self._flow.attention for node, _ in reached),
            reads,
        )

    def _givers(self, meeting: Meeting, number: int) -> dict[NodeSide, Indices]:
        """Return the layers that make the queries (0) or keys (1) of a meeting, and where."""
        node = meeting.inputs[number]
        (mapping,) = self._flow.link(node, meeting).mappings
        places = np.arange(len(meeting.keys), dtype=np.int64)
        found: dict[NodeSide, Indices] = {}
        stack = [(node, _sent(mapping, places, places, True)[0])]
        while stack:
            node, positions = stack.pop()
            known = found.get((node, "out"), places[:0])
            fresh = np.setdiff1d(positions, known)
            found[node, "out"] = np.union1d(known, fresh)
            if not len(fresh) or self._is_two_sided(node):
                continue
            for given in dict.fromkeys(node.inputs):
                for link in self._flow.link(given, node).mappings:
                    stack.append((given, _sent(link, fresh, fresh, True)[0]))
        return {(node, side): at for (node, side), at in found.items() if self._is_two_sided(node)}

    def _splits(self, reached: Mapping[NodeSide, Indices]) -> Iterator[Labels]:
        for node, labels in self._flow.splits.items():
            found = reached.get((node, "out"))
            if found is not None and labels.max(initial=-1) < len(found):
                yield np.where(labels >= 0, found[labels], -1)

    def _neighbours(self, node: Node, side: Side) -> Iterator[tuple[Node, Side, Link, bool, str]]:
        """Give the neighbours of one side: node, side, link, True to go back, obstacle."""
        two_sided = self._is_two_sided(node)
        for tied, tied_side in self._ties.get((node, side), ()):
            yield tied, tied_side, Link((None,)), False, self._why_not_tied(node, tied)
        if side == "out" or not two_sided:
            if node in self._ends:
                yield node, side, Link(), False, AT_THE_OUTPUT
            for meeting in self._flow.meetings.get(node, ()):
                yield meeting, "out", self._flow.link(node, meeting), False, ""
            for following in dict.fromkeys(node.outputs):
                link = self._flow.link(node, following)
                its_side: Side = "in" if self._is_two_sided(following) else "out"
                yield following, its_side, link, False, link.down
        if side == "in" or not two_sided:
            if node in self._flow.bound:
                yield node, side, Link(), True, self._flow.bound[node]
            for given in dict.fromkeys([*node.inputs, *self._flow.unwrapped.get(node, ())]):
                link = self._flow.link(given, node)
                yield given, "out", link, True, link.up

    def _why_not_tied(self, node: Node, tied: Node) -> str:
        """Return why channels cannot be followed from one of two tied layers, or nothing."""
        if node in self._flow.passed or tied in self._flow.passed:
            return "it shares a tensor with a layer that works on every head or token alike"
        return ""

    def _is_two_sided(self, node: Node) -> bool:
        return self._two_sided.get(node, False) and node not in self._flow.passed


def _readers(
    queries: dict[NodeSide, Indices], keys: dict[NodeSide, Indices]
) -> dict[NodeSide, Indices]:
    """Return the side of a meeting that reads the other: the keys, or nothing if both are one.

    Behind a tensor that is cut into equal pieces, those of the first piece are bound to the same
    places in the others, so that the other pieces say which is which.
    """
    shared = {at: np.intersect1d(keys[at], queries[at]) for at in keys.keys() & queries}
    if not any(map(len, shared.values())):
        return keys
    for side, other in ((keys, queries), (queries, keys)):
        within = all(np.isin(held, other.get(at, held[:0])).all() for at, held in side.items())
        if within and sum(map(len, side.values())) < sum(map(len, other.values())):
            return side
    return {}


def _arrive(
    reached: dict[NodeSide, Indices], at: NodeSide, positions: Indices, numbers: Indices
) -> tuple[Indices, Indices]:
    """Write numbers down where they arrive.

    Returns:
        The positions that had none before, and the pairs of numbers that met at a position.
    """
    size = int(positions.max(initial=-1)) + 1
    known = reached.get(at)
    if known is None and (positions[1:] > positions[:-1]).all():
        known = reached[at] = np.full(size, -1, dtype=np.int64)
        known[positions] = numbers
        return positions, _NO_PAIRS
    if known is None or len(known) < size:
        longer = np.full(size, -1, dtype=np.int64)
        if known is not None:
            longer[: len(known)] = known
        known = reached[at] = longer
    is_new = known[positions] < 0
    fresh = distinct(positions[is_new])
    known[positions[is_new][::-1]] = numbers[is_new][::-1]  # of several, the first stays
    held = known[positions]
    differ = held != numbers
    if not differ.any():
        return fresh, _NO_PAIRS
    first, second = held[differ], numbers[differ]
    step = int(second.max(initial=0)) + 1
    codes = distinct(first * step + second)
    return fresh, np.stack([codes // step, codes % step], axis=1)


def _sent(
    mapping: IndexMapping | None, fresh: Indices, numbers: Indices, backward: bool
) -> tuple[Indices, Indices]:
    """Return the positions at the other end of a link, and the numbers that arrive there."""
    if mapping is None:
        return fresh, numbers
    here, there = mapping.inputs, mapping.outputs
    if backward:
        here, there = there, here
    size = max(int(fresh.max()), int(here.max(initial=0))) + 1
    sending = np.full(size, -1, dtype=np.int64)
    sending[fresh] = numbers
    found = sending[here]
    return there[found >= 0], found[found >= 0]


def parameters_reached(walk: Walk) -> dict[UnwrappedParameter, Indices]:
    """Return the parameters used outside layers that a walk has reached."""
    return {
        node: found
        for (node, _), found in walk.reached.items()
        if isinstance(node, UnwrappedParameter)
    }
