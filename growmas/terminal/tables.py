"""Tables in the common style: a line under the head and one above the foot."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from growmas.terminal.symbols import Symbols


def plain_table(signs: Symbols, *, gap: int = 1) -> Table:
    """Return an empty table.

    Args:
        signs: Characters to draw it with.
        gap: Blanks between columns, in addition to one that the lines need.
    """
    return Table(
        box=signs.rule,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
    )


def with_notes(table: RenderableType, notes: Iterable[str]) -> RenderableType:
    """Return a table, an empty line, and notes on how to read it, a paragraph each."""
    return Group(table, Text(), *(Text(note, "dim") for note in notes))
