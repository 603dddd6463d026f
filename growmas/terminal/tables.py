"""Tables in the common style: a line under the head and one above the foot."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from growmas.explanation import Explanation as Explanation
from growmas.terminal.symbols import Symbols

_UNLIMITED = 1_000


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


@dataclass(frozen=True)
class Fitting:
    """A table, or a narrower one where there is no room for it.

    Attributes:
        wide: The table.
        narrow: The other.
        room: Columns that the first needs; by default those of its content without line breaks.
    """

    wide: Table
    narrow: Table
    room: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(max_width=_UNLIMITED)
        room = self.room or Measurement.get(console, unlimited, self.wide).maximum
        yield self.wide if room <= options.max_width else self.narrow


class BriefConsole(Console):
    """A console that leaves explanations out; every other console shows them."""


def with_notes(table: RenderableType, notes: Iterable[str]) -> RenderableType:
    """Return a table, an empty line, and notes below it, a paragraph each."""
    return _Noted(table, tuple(notes))


def explains(console: Console) -> bool:
    """Return True if a console shows explanations."""
    return not isinstance(console, BriefConsole)


@dataclass(frozen=True)
class _Noted:
    """A table with notes, of which a `BriefConsole` leaves the explanations out."""

    table: RenderableType
    notes: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        every = explains(console)
        shown = [each for each in self.notes if every or not isinstance(each, Explanation)]
        yield self.table
        if shown:
            yield Text()
            yield from (Text(note, "dim") for note in shown)
