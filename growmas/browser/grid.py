"""The heat map of groups × tasks with a cursor, in the middle of the browser."""

from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from growmas.browser.board import MEASURES, Board
from growmas.browser.watched_run import EMPTY
from growmas.rounding import short
from growmas.terminal.folding import shared_words

CELL = 8  # characters per task, one of them a gap
_MOST_NAME = 22
_COLD, _HOT = (38, 50, 66), (120, 190, 250)


class Grid(Widget, can_focus=True):
    """Cells of the board in one measure, with totals below; it scrolls with its cursor."""

    board: reactive[Board] = reactive(EMPTY, layout=False)
    row: reactive[int] = reactive(0)
    column: reactive[int] = reactive(0)
    measure: reactive[int] = reactive(0)
    wanted: reactive[str] = reactive("")
    marks: reactive[tuple[int, ...]] = reactive(())

    class Moved(Message):
        """The cursor moved to another cell."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that match the filter."""
        words = self.wanted.lower()
        return tuple(name for name in self.board.groups if words in name.lower())

    @property
    def group(self) -> str | None:
        """The group under the cursor."""
        groups = self.groups
        return groups[min(self.row, len(groups) - 1)] if groups else None

    def move(self, *, rows: int = 0, tasks: int = 0) -> None:
        """Move the cursor within the board."""
        self.row = max(0, min(len(self.groups) - 1, self.row + rows))
        self.column = max(0, min(len(self.board.tasks) - 1, self.column + tasks))
        self.post_message(self.Moved())

    @property
    def first_task(self) -> int:
        """Index of the task in the leftmost column."""
        shown, last = self._columns, len(self.board.tasks)
        return max(0, min(self.column - shown // 2, last - shown))

    @property
    def first_row(self) -> int:
        """Index of the group in the topmost row."""
        shown = self._rows
        return max(0, min(self.row - shown // 2, len(self.groups) - shown))

    def render(self) -> Text:
        """Return the heat map as lines of text."""
        if not self.board.tasks:
            return Text("no task has begun yet: waiting for the first", "dim")
        lines = [self._head()]
        groups = self.groups[self.first_row : self.first_row + self._rows]
        lines += [self._line(name) for name in groups]
        if not groups:
            lines.append(Text(f"no group has {self.wanted!r} in its name", "dim"))
        above, below = self.first_row, len(self.groups) - self.first_row - len(groups)
        more = [f"{above} above" if above else "", f"{below} below" if below > 0 else ""]
        lines.append(Text(", ".join(part for part in more if part), "dim italic"))
        lines += self._totals()
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def on_resize(self) -> None:
        """Report that other cells may be shown."""
        self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the cell under the pointer."""
        task = self.first_task + (event.x - self._name_width) // CELL
        row = self.first_row + event.y - 1
        if event.x >= self._name_width and 0 <= event.y - 1 < self._rows:
            self.move(rows=row - self.row, tasks=task - self.column)

    @property
    def _name_width(self) -> int:
        longest = max((len(name) for name in (*self.board.groups, "parameters")), default=0)
        return min(longest, _MOST_NAME, max(6, self.size.width // 3)) + 1

    @property
    def _columns(self) -> int:
        return max(1, (self.size.width - self._name_width) // CELL)

    @property
    def _rows(self) -> int:
        return max(1, self.size.height - 5)

    @property
    def _shown(self) -> range:
        first = self.first_task
        return range(first, min(first + self._columns, len(self.board.tasks)))

    def _head(self) -> Text:
        start = shared_words(self.board.tasks)
        line = Text(_fitted(start.strip(), self._name_width), "dim")
        for task in self._shown:
            name = self.board.tasks[task].removeprefix(start).strip()
            if task in self.marks:
                name = f"{'AB'[sorted(self.marks).index(task)]}:{name}"
            label = _fitted(name, CELL - 1, right=True) + " "
            style = "bold reverse" if task == self.column else "bold" if task in self.marks else ""
            line.append(label[:-1], style)
            line.append(" ")
        return line

    def _line(self, name: str) -> Text:
        chosen = name == self.group
        line = Text(_fitted(name, self._name_width), "bold" if chosen else "")
        for task in self._shown:
            cell = MEASURES[self.measure].cell(self.board, name, task)
            here = chosen and task == self.column
            text = f"[{cell.text}]" if here else f"{cell.text} "
            line.append(text[: CELL - 1].rjust(CELL - 1), _shade(cell.share))
            line.append(" ")
        return line

    def _totals(self) -> list[Text]:
        board = self.board
        rows = (
            ("all units", [short(each.width) for each in board.total]),
            ("parameters", ["·" if n is None else short(n) for n in board.parameters]),
            ("accuracy", ["·" if a is None else f"{100 * a:.1f}%" for a in board.accuracy]),
        )
        lines = []
        for name, values in rows:
            line = Text(_fitted(name, self._name_width), "dim")
            for task in self._shown:
                line.append(values[task].rjust(CELL - 2) + "  ")
            lines.append(line)
        return lines


def _shade(share: float) -> Style:
    """Return light letters on a dark cell, or dark letters on a light cell."""
    mixed = [round(a + (b - a) * share) for a, b in zip(_COLD, _HOT, strict=True)]
    letters = "#0b1220" if share > 0.55 else "#e8edf4"
    return Style.parse(f"{letters} on rgb({','.join(map(str, mixed))})")


def _fitted(text: str, width: int, *, right: bool = False) -> str:
    if len(text) > width:
        text = text[: max(0, width - 1)] + "…"
    return text.rjust(width) if right else text.ljust(width)
