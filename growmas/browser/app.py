"""The Textual app: runs on the left, the board in the middle, details on the right."""

from collections.abc import Sequence
from typing import ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Footer, Input, OptionList, Static

from growmas.browser import detail
from growmas.browser.board import MEASURES
from growmas.browser.export import as_csv, as_json, without_network, write_free
from growmas.browser.grid import Grid
from growmas.browser.screens import Export, Help
from growmas.browser.watched_run import WatchedRun
from growmas.errors import GrowmasError, HistoryError
from growmas.terminal.naming import read_unit

POLL = 1.0
"""Seconds between two readings of the file."""
PACE = 0.6
"""Seconds per task while tasks are played."""


class Browser(App[None]):
    """An app that shows runs, and follows the chosen one while it is written.

    Args:
        runs: Runs to show, the first one at the start.
        poll: Seconds between two readings of the file.
    """

    CSS_PATH = "browser.tcss"
    TITLE = "growmas watch"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-normal"), (130, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Task", show=False),
        Binding("right,l", "step(1)", "Task", show=False),
        Binding("up,k", "row(-1)", "Group", show=False),
        Binding("down,j", "row(1)", "Group", show=False),
        Binding("home", "ends(0)", "First", show=False),
        Binding("end", "ends(1)", "Last", show=False),
        Binding("question_mark", "help", "Help"),
        Binding("m", "measure(1)", "Measure"),
        Binding("M", "measure(-1)", "Measure", show=False),
        Binding("space", "play", "Play"),
        Binding("comma", "unit(-1)", "Unit", show=False),
        Binding("full_stop", "unit(1)", "Unit"),
        Binding("d", "mark", "Diff"),
        Binding("slash", "filter", "Filter"),
        Binding("e", "export", "Export"),
        Binding("r", "run", "Run"),
        Binding("escape", "leave", "Back", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, runs: Sequence[WatchedRun], *, poll: float = POLL) -> None:
        super().__init__()
        self._runs = list(runs)
        self._poll = poll
        self._chosen = 0
        self._unit: int | None = None
        self._playing: Timer | None = None

    @property
    def watched(self) -> WatchedRun:
        """The run shown now."""
        return self._runs[self._chosen]

    @property
    def grid(self) -> Grid:
        """The widget that shows the board."""
        return self.query_one(Grid)

    def compose(self) -> ComposeResult:
        """Yield three columns, an input line, and the keys."""
        with Horizontal(id="columns"):
            runs = OptionList(*(self._entry(watched) for watched in self._runs), id="runs")
            runs.border_title = "runs"
            yield runs
            with Vertical(id="middle"):
                yield Static(id="reading")
                yield Grid(id="grid")
                with VerticalScroll(id="during", can_focus=False):
                    yield Static(id="events")
                yield Input(placeholder="part of a group's name, or a unit: fc1#17", id="filter")
            with VerticalScroll(id="side", can_focus=False):
                yield Static(id="detail")
        yield Footer()

    def on_mount(self) -> None:
        """Show the first run and start to follow it."""
        self.query_one("#runs").display = len(self._runs) > 1
        self.query_one("#filter").display = False
        self.show_run(0)
        self.grid.focus()
        self.set_interval(self._poll, self.follow)

    def on_unmount(self) -> None:
        """Close all files."""
        for watched in self._runs:
            watched.close()

    def show_run(self, index: int) -> None:
        """Show another run, at its last task."""
        self._chosen, self._unit = index, None
        self.watched.refresh()
        grid = self.grid
        grid.marks, grid.wanted, grid.row = (), "", 0
        grid.board = self.watched.board
        grid.column = max(0, len(grid.board.tasks) - 1)
        self.query_one("#runs", OptionList).highlighted = index
        self.show_all()

    def follow(self) -> None:
        """Read what is new; a cursor on the last task moves on to a new one."""
        if not self.watched.refresh():
            return
        grid, board = self.grid, self.watched.board
        at_end = grid.column >= len(grid.board.tasks) - 1
        grid.board = board
        last = max(0, len(board.tasks) - 1)
        grid.column = last if at_end and self._playing is None else min(grid.column, last)
        grid.marks = tuple(mark for mark in grid.marks if mark <= last)
        entry = self._entry(self.watched)
        self.query_one("#runs", OptionList).replace_option_prompt_at_index(self._chosen, entry)
        self.show_all()

    def show_all(self) -> None:
        """Update the line above the board, its border and the details."""
        measure, board, grid = MEASURES[self.grid.measure], self.watched.board, self.grid
        state = "live" if board.live else "recorded"
        middle = self.query_one("#middle")
        middle.border_title = f"{self.watched.name} · {state}"
        at = (
            f"{board.tasks[grid.column]} ({grid.column + 1}/{len(board.tasks)})"
            if board.tasks
            else ""
        )
        middle.border_subtitle = at + (" · playing" if self._playing else "")
        reading = Text(measure.name, "bold").append(f"  {measure.reading}", "not bold dim")
        self.query_one("#reading", Static).update(reading)
        self.query_one("#detail", Static).update(self._detail())
        self.query_one("#events", Static).update(self._events())
        grid.styles.height = max(1, len(grid.groups)) + 6

    def _detail(self) -> RenderableType:
        watched, grid = self.watched, self.grid
        side, history, group = self.query_one("#side"), watched.history, grid.group
        side.border_title = "detail"
        if watched.trouble is not None:
            return Text(watched.trouble, "bold red")
        if history is None or not watched.board.tasks or group is None:
            return Text("nothing to show yet", "dim")
        try:
            if len(grid.marks) == 2:
                side.border_title = "difference"
                return detail.two_tasks(history, watched.board, *sorted(grid.marks))
            if self._unit is not None:
                side.border_title = "unit"
                return detail.unit_life(history, group, self._unit)
            side.border_title = "group"
            events = watched.events(grid.column)
            return detail.group_at(history, watched.board, events, group, grid.column)
        except HistoryError as error:
            return Text(str(error), "bold red")

    def _events(self) -> RenderableType:
        history, board = self.watched.history, self.watched.board
        if history is None or not board.tasks:
            return ""
        try:
            events = self.watched.events(self.grid.column)
            return detail.during(board, events, self.grid.column)
        except HistoryError as error:
            return Text(str(error), "bold red")

    @staticmethod
    def _entry(watched: WatchedRun) -> Text:
        return Text(watched.name, "bold").append(f"\n{watched.remark}", "not bold dim")

    @on(Grid.Moved)
    def _moved(self) -> None:
        self.show_all()

    @on(OptionList.OptionSelected)
    def _run_chosen(self, event: OptionList.OptionSelected) -> None:
        self.show_run(event.option_index)
        self.grid.focus()

    @on(Input.Submitted)
    def _filtered(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        event.input.display = False
        self.grid.focus()
        if "#" in text:
            self._open_unit(text)
        else:
            self.grid.wanted, self.grid.row, self._unit = text, 0, None
        self.show_all()

    def _open_unit(self, text: str) -> None:
        grid = self.grid
        try:
            group, number = read_unit(text if text[0] != "#" else f"{grid.group}{text}")
            if self.watched.history is not None:
                self.watched.history.unit(group, number)
        except HistoryError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        if group not in grid.groups:
            grid.wanted = ""
        grid.row, self._unit, grid.marks = grid.groups.index(group), number, ()

    def action_step(self, tasks: int) -> None:
        """Move to another task."""
        self.grid.move(tasks=tasks)

    def action_row(self, rows: int) -> None:
        """Move to another group."""
        self._unit = None
        self.grid.move(rows=rows)

    def action_ends(self, last: int) -> None:
        """Move to the first or the last task."""
        count = len(self.watched.board.tasks)
        self.grid.move(tasks=count if last else -count)

    def action_measure(self, step: int) -> None:
        """Show another measure."""
        self.grid.measure = (self.grid.measure + step) % len(MEASURES)
        self.show_all()

    def action_play(self) -> None:
        """Play the tasks one after another, from the first if at the last; or stop."""
        if self._playing is not None:
            self._stop()
            return
        if self.grid.column >= len(self.watched.board.tasks) - 1:
            self.grid.column = 0
        self._playing = self.set_interval(PACE, self.play_on)
        self.show_all()

    def play_on(self) -> None:
        """Play one task; stop at the last one."""
        self.grid.move(tasks=1)
        if self.grid.column >= len(self.watched.board.tasks) - 1:
            self._stop()

    def _stop(self) -> None:
        if self._playing is not None:
            self._playing.stop()
            self._playing = None
        self.show_all()

    def action_unit(self, step: int) -> None:
        """Show the next unit alive at the task."""
        history, group = self.watched.history, self.grid.group
        if history is not None and group is not None and self.watched.board.tasks:
            self.grid.marks = ()
            self._unit = detail.neighbour(history, group, self.grid.column, self._unit, step)
            self.show_all()

    def action_mark(self) -> None:
        """Mark a task, or a second one; with two marked, clear both."""
        marks, task = self.grid.marks, self.grid.column
        if not self.watched.board.tasks:
            return
        if len(marks) == 2 or task in marks:
            self.grid.marks = ()
        else:
            self.grid.marks = (*marks, task)
            if not marks:
                self.notify("marked: go to another task and press d for the difference", timeout=3)
        self.show_all()

    def action_filter(self) -> None:
        """Open the input line for the filter."""
        line = self.query_one("#filter", Input)
        line.value, line.display = self.grid.wanted, True
        line.focus()

    def action_leave(self) -> None:
        """Close the unit, the difference and the filter."""
        line = self.query_one("#filter", Input)
        if line.display:
            line.display = False
        else:
            self._unit, self.grid.marks, self.grid.wanted = None, (), ""
        self.grid.focus()
        self.show_all()

    def action_run(self) -> None:
        """Show the next run."""
        self._stop()
        self.show_run((self._chosen + 1) % len(self._runs))

    def action_help(self) -> None:
        """Show all keys."""
        self.push_screen(Help())

    def action_export(self) -> None:
        """Ask for a format, then write a file."""
        self.push_screen(Export(), self._export)

    def _export(self, kind: str | None) -> None:
        if kind is None:
            return
        board, measure, groups = self.watched.board, MEASURES[self.grid.measure], self.grid.groups
        try:
            if kind == "svg":
                text = without_network(
                    self.export_screenshot(title=f"growmas watch {self.watched.name}")
                )
            else:
                text = (as_json if kind == "json" else as_csv)(board, measure, groups)
            path = write_free(f"{self.watched.name}-{measure.name.split()[0]}", kind, text)
        except GrowmasError as error:
            self.notify(str(error), severity="error", markup=False)
        else:
            self.notify(f"written to {path}", markup=False)
