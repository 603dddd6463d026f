"""Settings and their numbers, as a table that has room or as a list."""

import re
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from growmas.terminal.breaking import BreakingName
from growmas.terminal.symbols import Symbols
from growmas.terminal.tables import Fitting, as_list, plain_table

_NAMES = 16
"""Columns that the values of a setting have at least."""


def settings_table(
    names: Sequence[str],
    numbers: Sequence[str],
    rows: Sequence[Sequence[str]],
    signs: Symbols,
) -> RenderableType:
    """Return a row for each setting, in the widest of four forms that has room.

    These are a table; one with deviations and intervals on lines of their own; one that also has
    all values of a setting in one column; and a line for each number.

    Args:
        names: Headings of the values of a setting, the first cells of a row.
        numbers: Headings of the other cells.
        rows: Cells by setting.
        signs: Characters to draw it with.
    """
    broken = [[*row[: len(names)], *map(_broken, row[len(names) :])] for row in rows]
    headings = [heading.replace(" ", "\n") for heading in numbers]
    columns = zip(headings, *(row[len(names) :] for row in broken), strict=True)
    room = _NAMES + sum(1 + max(map(len, "\n".join(each).split("\n"))) for each in columns)
    together = [[_together(names, row), *row[len(names) :]] for row in broken]
    narrow = _table(names, headings, broken, signs, gap=0)
    least = _table(["setting"], headings, together, signs, gap=0)
    smaller = Fitting(narrow, Fitting(least, as_list(names, numbers, rows), room))
    return Fitting(_table(names, numbers, rows, signs, gap=1), smaller)


def _table(
    names: Sequence[str],
    numbers: Sequence[str],
    rows: Sequence[Sequence[str]],
    signs: Symbols,
    *,
    gap: int,
) -> Table:
    table = plain_table(signs, gap=gap)
    for heading in names:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        values, cells = row[: len(names)], row[len(names) :]
        table.add_row(*map(BreakingName, values), *map(Text, cells))
    return table


def _together(names: Sequence[str], row: Sequence[str]) -> str:
    """Return the values of a setting in one cell; a single one as it is."""
    if len(names) == 1:
        return row[0]
    return ",".join(f"{name}={value}" for name, value in zip(names, row, strict=False))


def _broken(cell: str) -> str:
    """Return a cell with its interval or deviation on a line of its own."""
    return re.sub(r" (?=\[|±|\+-)", "\n", cell)
