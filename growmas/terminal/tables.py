"""Tables in the common style: a line under the head and one above the foot."""

from collections.abc import Callable, Iterable, Sequence
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


def as_list(names: Sequence[str], headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Text:
    """Return a line for each number, for terminals in which no table has room.

    Args:
        names: Headings of the first cells of a row, which name it.
        headings: Of the other cells; empty ones are left out.
        rows: Cells by row.
    """
    lines = []
    for row in rows:
        named = zip(names, row, strict=False)
        lines.append(", ".join(f"{name}={cell}" for name, cell in named).replace("\n", ", "))
        cells = zip(headings, row[len(names) :], strict=True)
        lines += [f"  {heading} {cell}" for heading, cell in cells if cell]
    return Text("\n".join(lines))


@dataclass(frozen=True)
class Fitting:
    """A table, or a narrower view where there is no room for it.

    Attributes:
        wide: The table.
        narrow: The other view.
        room: Columns that the first needs where its content is broken into lines; by default it has
            to fit without.
    """

    wide: Table
    narrow: RenderableType
    room: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(max_width=_UNLIMITED)
        whole = Measurement.get(console, unlimited, self.wide).maximum
        room = whole if self.room is None else min(self.room, whole)
        yield self.wide if room <= options.max_width else self.narrow


@dataclass(frozen=True)
class InParts:
    """A table whose columns stand in several tables below each other where they have no room.

    Attributes:
        draw: Returns the table with these of its columns; columns that name a row are in each.
        columns: Number of columns that can be parted.
    """

    draw: Callable[[range], Table]
    columns: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(max_width=_UNLIMITED)
        start = 0
        while start < self.columns:
            stop = self.columns
            while stop > start + 1:
                table = self.draw(range(start, stop))
                if Measurement.get(console, unlimited, table).maximum <= options.max_width:
                    break
                stop -= 1
            if start:
                yield Text()
            yield self.draw(range(start, stop))
            start = stop


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
