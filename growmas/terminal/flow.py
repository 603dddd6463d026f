"""Data flow drawn as lanes that run down the page, one row per node, as `git log --graph` does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from growmas.terminal.symbols import Symbols

MOST_LANES = 10
"""Number of lanes; further edges at the same place are listed in words."""


@dataclass(frozen=True)
class Row:
    """A line of the drawing.

    Attributes:
        lanes: Characters of the lanes.
        node: Node of this row; None in rows where lanes part or meet.
        also: Sources of the node whose edges have no lane.
    """

    lanes: str
    node: str | None = None
    also: tuple[str, ...] = ()


def in_order(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[str]:
    """Return nodes after their sources, otherwise as near to the given order as possible.

    A cycle is broken at its first node in the given order.
    """
    waiting: dict[str, set[str]] = {node: set() for node in nodes}
    readers: dict[str, list[str]] = {}
    for source, target in edges:
        waiting[target].add(source)
        readers.setdefault(source, []).append(target)
    done: list[str] = []
    left = dict.fromkeys(nodes)
    while left:
        ready = next((node for node in left if not waiting[node]), next(iter(left)))
        del left[ready]
        done.append(ready)
        for target in readers.get(ready, ()):
            waiting[target].discard(ready)
    return done


def draw(nodes: Sequence[str], edges: Sequence[tuple[str, str]], signs: Symbols) -> list[Row]:
    """Return the rows of a graph whose nodes are given sources first."""
    place = {node: index for index, node in enumerate(nodes)}
    readers: dict[str, list[str]] = {}
    for source, target in sorted({*edges}, key=lambda edge: place[edge[1]]):
        if place[source] < place[target]:
            readers.setdefault(source, []).append(target)
    drawing = _Drawing(signs)
    for node in nodes:
        drawing.add(node, readers.get(node, []))
    return drawing.rows


class _Drawing:
    """Lanes drawn so far: each leads to the node that reads it, or is free."""

    def __init__(self, signs: Symbols) -> None:
        self.rows: list[Row] = []
        self._signs = signs
        self._lanes: list[str | None] = []
        self._also: dict[str, list[str]] = {}

    def add(self, node: str, readers: Sequence[str]) -> None:
        """Add a node: join the lanes that lead to it, and open lanes to the nodes that read it."""
        found = [lane for lane, target in enumerate(self._lanes) if target == node]
        if len(found) > 1:
            self._join(found, ends=(self._signs.joins[1], self._signs.joins[2]))
        lane = found[0] if found else self._free(0)
        if not found and self.rows and self.rows[-1].lanes[lane * 2 : lane * 2 + 1].strip():
            self.rows.append(Row(self._drawn({})))  # else it would seem to read the node above
        for other in found[1:]:
            self._lanes[other] = None
        self._lanes[lane] = node
        also = tuple(self._also.pop(node, ()))
        self.rows.append(Row(self._drawn({lane: self._signs.node}), node, also))
        self._part(lane, node, readers)

    def _part(self, lane: int, node: str, readers: Sequence[str]) -> None:
        self._lanes[lane] = readers[0] if readers else None
        opened = [lane]
        for target in readers[1:]:
            free = self._free(lane + 1)
            if free >= MOST_LANES:
                self._also.setdefault(target, []).append(node)
                continue
            opened.append(free)
            self._lanes[free] = target
        if len(opened) > 1:
            self._join(sorted(opened), ends=(self._signs.joins[3], self._signs.joins[4]))
        while self._lanes and self._lanes[-1] is None:
            self._lanes.pop()

    def _free(self, start: int) -> int:
        """Return the first free lane from `start` on."""
        for lane in range(start, len(self._lanes)):
            if self._lanes[lane] is None:
                return lane
        self._lanes += [None] * (max(start, len(self._lanes)) + 1 - len(self._lanes))
        return len(self._lanes) - 1

    def _join(self, lanes: Sequence[int], *, ends: tuple[str, str]) -> None:
        """Add a row in which lanes meet in, or part from, the first of them."""
        first, last = lanes[0], lanes[-1]
        marks = dict.fromkeys(lanes[1:-1], ends[1])
        marks |= {first: self._signs.joins[0], last: ends[0]}
        for lane in range(first + 1, last):
            if lane not in marks:
                taken = self._lanes[lane] is not None
                marks[lane] = self._signs.cross if taken else self._signs.across
        self.rows.append(Row(self._drawn(marks, across=range(first, last))))

    def _drawn(self, marks: Mapping[int, str], across: range = range(0)) -> str:
        drawn = ""
        for lane, target in enumerate(self._lanes):
            plain = " " if target is None else self._signs.line
            drawn += marks.get(lane, plain) + (self._signs.across if lane in across else " ")
        return drawn.rstrip()
