"""Printed names of units and times: `#17`, and `#64-81` for consecutive ids."""

import re
from collections.abc import Iterable
from datetime import datetime

from growmas.errors import HistoryError
from growmas.history.unit_ids import id_runs


def unit_ranges(ids: Iterable[int]) -> list[str]:
    """Return names of units, with consecutive ids joined.

    >>> unit_ranges([3, 4, 5, 9])
    ['#3-5', '#9']
    """
    return [f"#{first}" if first == last else f"#{first}-{last}" for first, last in id_runs(ids)]


def some_units(ids: Iterable[int], *, most: int, ellipsis: str) -> str:
    """Return names of units in one line, at most `most` units or ranges.

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
    """Return a time from a history in this machine's time zone, to the second."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def read_unit(text: str) -> tuple[str, int]:
    """Return the group and the id of a unit given as GROUP#ID.

    Raises:
        HistoryError: If the text does not have this form.

    >>> read_unit("blocks.1.fc#17")
    ('blocks.1.fc', 17)
    """
    found = re.fullmatch(r"(.+)#(\d{1,18})", text)  # more digits than any id, or any file, has
    if not found:
        raise HistoryError(
            f"{text!r} does not name a unit: write GROUP#ID, such as 'fc1#17' (with quotes, since "
            "some shells read # as a comment)"
        )
    return found[1], int(found[2])


def _count(name: str) -> int:
    first, _, last = name.removeprefix("#").partition("-")
    return int(last) - int(first) + 1 if last else 1
