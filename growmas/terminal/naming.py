"""How units and moments are named in print: `#17`, and `#64-81` for units in a row."""

import re
from collections.abc import Iterable
from datetime import datetime

from growmas.errors import HistoryError


def unit_ranges(ids: Iterable[int]) -> list[str]:
    """Names of units, those with ids in a row joined.

    >>> unit_ranges([3, 4, 5, 9])
    ['#3-5', '#9']
    """
    return [f"#{first}" if first == last else f"#{first}-{last}" for first, last in in_rows(ids)]


def in_rows(ids: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the last of every row of ids that follow one another.

    >>> in_rows([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    rows: list[tuple[int, int]] = []
    for unit in sorted(ids):
        if rows and unit == rows[-1][1] + 1:
            rows[-1] = rows[-1][0], unit
        else:
            rows.append((unit, unit))
    return rows


def some_units(ids: Iterable[int], *, most: int, ellipsis: str) -> str:
    """Names of units in one line, at most so many of them or of their ranges.

    >>> some_units([3, 4, 5, 9, 11], most=2, ellipsis="…")
    '#3-5 #9 … 1 more'
    """
    units = sorted(ids)
    ranges = unit_ranges(units)
    if len(ranges) <= most:
        return " ".join(ranges)
    named = sum(_count(each) for each in ranges[:most])
    return f"{' '.join(ranges[:most])} {ellipsis} {len(units) - named} more"


def local_time(moment: str) -> str:
    """A time from a history, in the zone of this machine, to the second."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def read_unit(text: str) -> tuple[str, int]:
    """The group and the id of a unit given as GROUP#ID.

    Raises:
        HistoryError: If it is not written so.

    >>> read_unit("blocks.1.fc#17")
    ('blocks.1.fc', 17)
    """
    found = re.fullmatch(r"(.+)#(\d+)", text)
    if not found:
        raise HistoryError(
            f"{text!r} does not name a unit: write GROUP#ID, such as 'fc1#17' (quoted, since some "
            "shells take # for a comment)"
        )
    return found[1], int(found[2])


def _count(name: str) -> int:
    first, _, last = name.removeprefix("#").partition("-")
    return int(last) - int(first) + 1 if last else 1
