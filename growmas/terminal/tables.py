"""The one look of all tables: a rule under the head and one above the foot, nothing else."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from growmas.terminal.symbols import Symbols


def plain_table(signs: Symbols, *, gap: int = 1) -> Table:
    """An empty table.

    Args:
        signs: The characters to draw it with.
        gap: Blanks between columns, beside the one that rules need.
    """
    return Table(
        box=signs.rule,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
    )


def with_notes(view: RenderableType, notes: Iterable[str]) -> RenderableType:
    """A view, an empty line, and how to read it, a paragraph for each note."""
    return Group(view, Text(), *(Text(note, "dim") for note in notes))
