"""Importance of many units as one blob of bytes, with its summary."""

import math
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from growmas.errors import HistoryError

SHARES = 255  # the byte that stands for a share of 1

Shares = Mapping[str, tuple[float, bytes | None]]
"""Layer -> its share of a group's importance, and of each unit's as bytes; None: all of it."""


@dataclass(frozen=True)
class PackedImportance:
    """The importance of a group's U units, as it is stored.

    Attributes:
        units: U.
        total: Sum of the values.
        least: Smallest value.
        most: Largest value.
        zeros: Number of values that are exactly 0.
        data: [U] values as little-endian float32, by ascending id.
    """

    units: int
    total: float
    least: float
    most: float
    zeros: int
    data: bytes


def pack_importance(
    group: str, unit_ids: Sequence[int], values: Iterable[float]
) -> PackedImportance:
    """Pack the importance of a group's units.

    Args:
        group: Name of the group, for messages.
        unit_ids: [U] ids.
        values: [U] importances in the order of `unit_ids`.

    Raises:
        HistoryError: If a value is not finite in single precision.
    """
    floats = array("f", by_ascending_id(unit_ids, list(values)))
    total = math.fsum(floats)
    if not math.isfinite(total):
        bad = [i for i, value in enumerate(floats) if not math.isfinite(value)]
        raise HistoryError(
            f"the importance of {len(bad)} units of {group!r} is not finite "
            f"(unit {sorted(unit_ids)[bad[0]]}: {floats[bad[0]]}): measure omega again"
        )
    least, most = min(floats, default=0.0), max(floats, default=0.0)
    zeros = floats.count(0.0)
    return PackedImportance(len(floats), total, least, most, zeros, packed(floats))


def by_ascending_id(unit_ids: Sequence[int], values: list[float]) -> list[float]:
    """Return values sorted by ascending id."""
    if all(a < b for a, b in pairwise(unit_ids)):
        return values
    return [value for _, value in sorted(zip(unit_ids, values, strict=True))]


def packed(floats: "array[float]") -> bytes:
    """Return numbers as little-endian float32."""
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def unpacked(data: bytes) -> "array[float]":
    """Return the numbers in data from `packed`."""
    floats = array("f")
    floats.frombytes(data)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def summed(parts: Mapping[str, list[float]]) -> list[float]:
    """Return the elementwise sum of several lists."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    return [sum(values) for values in zip(*parts.values(), strict=True)]


def pack_shares(parts: Mapping[str, list[float]], total: list[float]) -> Shares:
    """Return each layer's share of a group and of each unit; layers without a share are left out.

    Args:
        parts: Layer -> [U] its part of the importance of each unit, by ascending id.
        total: [U] sums of the parts.
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


class Lifetimes:
    """Births and deaths of the units of one group.

    Args:
        lives: Unit id, in ascending order -> numbers of the events of its birth and death; 0 for a
            birth before all events, None for no death.
    """

    def __init__(self, lives: Mapping[int, tuple[int, int | None]]) -> None:
        self._lives = lives
        self._known: dict[int, tuple[int, ...]] = {}

    def alive(self, event: int) -> tuple[int, ...]:
        """Return the ids of the units alive after an event, in ascending order."""
        if event not in self._known:
            self._known[event] = tuple(
                unit
                for unit, (birth, death) in self._lives.items()
                if birth <= event and (death is None or death > event)
            )
        return self._known[event]

    def position(self, unit: int) -> "Position":
        """Return the position of a unit among the living units, as a function of the event."""
        earlier = [life for other, life in self._lives.items() if other < unit]
        births = sorted(birth for birth, _ in earlier)
        deaths = sorted(death for _, death in earlier if death is not None)
        return Position(self._lives[unit], births, deaths)


@dataclass(frozen=True)
class Position:
    """Position of a unit among the living units of its group, in the order of ids.

    Attributes:
        life: Events of the unit's birth and death.
        births: Events of the births of units with smaller ids, sorted.
        deaths: Events of the deaths of units with smaller ids, sorted.
    """

    life: tuple[int, int | None]
    births: Sequence[int]
    deaths: Sequence[int]

    def after(self, event: int) -> int | None:
        """Return the position after an event, from 0; None if the unit was not alive."""
        birth, death = self.life
        if birth > event or (death is not None and death <= event):
            return None
        return bisect_right(self.births, event) - bisect_right(self.deaths, event)
