"""Numbers of many units as one blob, and what a blob says in a few numbers."""

import math
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from growmas.errors import HistoryError

SHARES = 255  # what a whole is as a byte

Shares = Mapping[str, tuple[float, bytes | None]]
"""Layer -> its share of a group's importance, and of each unit's as bytes; None: all of it."""


@dataclass(frozen=True)
class Measured:
    """The importance of a group's units, as it is stored.

    Attributes:
        units: How many.
        total: Their sum.
        least: The smallest.
        most: The largest.
        zeros: How many are exactly 0.
        data: Little-endian float32, by ascending id.
    """

    units: int
    total: float
    least: float
    most: float
    zeros: int
    data: bytes


def measured(group: str, unit_ids: Sequence[int], values: Iterable[float]) -> Measured:
    """Pack the importance of a group's units.

    Args:
        group: Its name, for messages.
        unit_ids: [U] ids.
        values: [U] in the order of `unit_ids`.

    Raises:
        HistoryError: If a value is not finite in single precision.
    """
    floats = array("f", in_order(unit_ids, list(values)))
    total = math.fsum(floats)
    if not math.isfinite(total):
        bad = [i for i, value in enumerate(floats) if not math.isfinite(value)]
        raise HistoryError(
            f"the importance of {len(bad)} units of {group!r} is not finite "
            f"(unit {sorted(unit_ids)[bad[0]]}: {floats[bad[0]]}): measure omega again"
        )
    least, most = min(floats, default=0.0), max(floats, default=0.0)
    zeros = floats.count(0.0)
    return Measured(len(floats), total, least, most, zeros, packed(floats))


def in_order(unit_ids: Sequence[int], values: list[float]) -> list[float]:
    """Values by ascending id."""
    if all(a < b for a, b in pairwise(unit_ids)):
        return values
    return [value for _, value in sorted(zip(unit_ids, values, strict=True))]


def packed(floats: "array[float]") -> bytes:
    """As little-endian float32."""
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def unpacked(data: bytes) -> "array[float]":
    """What `packed` packed."""
    floats = array("f")
    floats.frombytes(data)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def summed(parts: Mapping[str, list[float]]) -> list[float]:
    """The sum of several lists, place by place."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    return [sum(values) for values in zip(*parts.values(), strict=True)]


def shares(parts: Mapping[str, list[float]], total: list[float]) -> Shares:
    """Layer to its share of all units, and of each; layers without any are left out.

    Args:
        parts: Layer -> [U] what it adds to the importance of each unit, by ascending id.
        total: [U] their sums.
    """
    whole = math.fsum(total)
    if not whole:
        return {}
    if len(parts) == 1:
        return dict.fromkeys(parts, (1.0, None))
    scales = [SHARES / value if value else 0.0 for value in total]
    return {
        layer: (share, bytes([round(v * s) for v, s in zip(values, scales, strict=True)]))
        for layer, values in parts.items()
        if (share := math.fsum(values) / whole)
    }


class Roll:
    """Who was alive when, in one group; ids in ascending order.

    Args:
        lives: Unit id -> numbers of the events of its birth and death; 0 for a birth before all
            events, None for no death.
    """

    def __init__(self, lives: Mapping[int, tuple[int, int | None]]) -> None:
        self._lives = lives
        self._known: dict[int, tuple[int, ...]] = {}

    def alive(self, event: int) -> tuple[int, ...]:
        """Ids of the units alive after an event."""
        if event not in self._known:
            self._known[event] = tuple(
                unit
                for unit, (birth, death) in self._lives.items()
                if birth <= event and (death is None or death > event)
            )
        return self._known[event]

    def place(self, unit: int) -> "Place":
        """Where a unit stands among the living."""
        earlier = [life for other, life in self._lives.items() if other < unit]
        births = sorted(birth for birth, _ in earlier)
        deaths = sorted(death for _, death in earlier if death is not None)
        return Place(self._lives[unit], births, deaths)


@dataclass(frozen=True)
class Place:
    """Where a unit stands among the living of its group.

    Attributes:
        life: Events of its birth and death.
        births: Events of the births of units with smaller ids, sorted.
        deaths: Of their deaths, sorted.
    """

    life: tuple[int, int | None]
    births: Sequence[int]
    deaths: Sequence[int]

    def after(self, event: int) -> int | None:
        """Its place after an event, from 0; None if it was not alive."""
        birth, death = self.life
        if birth > event or (death is not None and death <= event):
            return None
        return bisect_right(self.births, event) - bisect_right(self.deaths, event)
