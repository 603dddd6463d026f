"""The Textual app: runs on the left, the board in the middle, details next to it or below."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Input, OptionList, Static

from growmas.browser import detail
from growmas.browser.board import MEASURES
from growmas.browser.export import as_csv, as_json, without_network, write_free
from growmas.browser.following import NOTHING, FollowedRuns
from growmas.browser.found_runs import Place
from growmas.browser.grid import Grid
from growmas.browser.keys import KEYS
from growmas.browser.progress_line import progress_line, title
from growmas.browser.run_list import RunList, fitted
from growmas.browser.screens import Export, Help
from growmas.browser.side import Side
from growmas.browser.watched_run import WatchedRun
from growmas.errors import GrowmasError, HistoryError
from growmas.terminal.naming import read_unit

POLL = 1.0
"""Seconds between two looks at the files."""
PACE = 0.6
"""Seconds per task while tasks are played."""


class Browser(App[None]):
    """An app that shows runs, and follows the chosen one while it is written.

    Args:
        runs: Runs to show, the first one at the start.
        poll: Seconds between two looks at the files.
        find: Returns the places of all runs that there are now; None to show `runs` alone.
        where: What `find` searches, in words.
    """

    CSS_PATH = "browser.tcss"
    TITLE = "growmas watch"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (120, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(
        self,
        runs: Sequence[WatchedRun] = (),
        *,
        poll: float = POLL,
        find: Callable[[], Sequence[Place]] | None = None,
        where: str = "",
    ) -> None:
        super().__init__()
        self._followed = FollowedRuns(runs, find)
        self._where = where
        self._poll = poll
        self._playing: Timer | None = None
        self._filters_runs = False
        self.watched = NOTHING

    @property
    def _main(self) -> Screen[object]:
        """The screen of the browser, which may lie below that of the help."""
        return self.screen_stack[0]

    @property
    def grid(self) -> Grid:
        """The widget that shows the board."""
        return self._main.query_one(Grid)

    @property
    def side(self) -> Side:
        """The widget that shows details."""
        return self._main.query_one(Side)

    @property
    def run_list(self) -> RunList:
        """The widget that lists the runs."""
        return self._main.query_one(RunList)

    @property
    def _first(self) -> WatchedRun:
        """The run shown at first: the topmost of the list, or the first that was named."""
        shown = self.run_list.shown if self._followed.searching else []
        return shown[0] if shown else self._followed.first

    def compose(self) -> ComposeResult:
        """Yield the list, the board, the details, an input line, and the keys."""
        with Horizontal(id="columns"):
            yield RunList(self._followed.runs)
            with Vertical(id="both"):
                with Vertical(id="middle"):
                    yield Static(id="progress")
                    yield Static(id="reading")
                    yield Grid(id="grid")
                    with VerticalScroll(id="during", can_focus=False):
                        yield Static(id="events")
                    yield Input(id="filter")
                yield Side()
        yield Footer(compact=True)
        yield Static("? keys  q quit", id="few-keys")

    def on_mount(self) -> None:
        """Show the first run and start to follow all."""
        self._main.query_one("#filter").display = False
        self._list_anew()
        self.show_run(self._first)
        self.grid.focus()
        self.set_interval(self._poll, self.follow)

    def on_unmount(self) -> None:
        """Close all files."""
        self._followed.close()

    def show_run(self, run: WatchedRun) -> None:
        """Show another run, at its last task."""
        self._stop()
        self.watched = run
        run.refresh()
        run.study()
        grid = self.grid
        grid.marks, grid.wanted, grid.row = (), "", 0
        grid.board = run.board
        grid.column = max(0, len(grid.board.tasks) - 1)
        self.side.reset()
        self.run_list.mark(run)
        self.show_all()

    def follow(self) -> None:
        """Read what is new; a cursor on the last task moves on to a new one."""
        if not self._main.query("#progress"):  # the browser is closing
            return
        before = self._followed.runs
        changed = self._followed.look()
        if changed or self._followed.runs != before:
            self._list_anew()
        if self.watched not in (self._followed.runs or [NOTHING]):
            self.show_run(self._first)
            return
        if self.watched.refresh():
            self._take_board()
        elif self.watched not in changed:
            self._show_progress()
            return
        self.watched.study()
        self.show_all()

    def _list_anew(self) -> None:
        self.run_list.runs = list(self._followed.runs)
        self.run_list.display = self._followed.searching or len(self._followed.runs) > 1
        self.run_list.update_rows()

    def _take_board(self) -> None:
        grid, board = self.grid, self.watched.board
        at_end = grid.column >= len(grid.board.tasks) - 1
        grid.board = board
        last = max(0, len(board.tasks) - 1)
        grid.column = last if at_end and self._playing is None else min(grid.column, last)
        grid.marks = tuple(mark for mark in grid.marks if mark <= last)

    def show_all(self) -> None:
        """Update the lines above the board, its border and the details."""
        measure, board, grid = MEASURES[self.grid.measure], self.watched.board, self.grid
        middle = self._main.query_one("#middle")
        room = max(8, middle.size.width - 4)
        middle.border_title = title(self.watched, room)
        at = (
            f"{board.tasks[grid.column]} ({grid.column + 1}/{len(board.tasks)})"
            if board.tasks
            else ""
        )
        middle.border_subtitle = fitted(at, room - 10) + (" · playing" if self._playing else "")
        reading = measure.reading_within(room - len(measure.name) - 2)
        self._main.query_one("#reading", Static).update(
            Text(measure.name, "bold").append(f"  {reading}", "not bold dim")
        )
        self._show_progress()
        if self.watched is NOTHING:
            words = f"waiting for a run below {self._where}: growmas run CONFIG begins one"
            self.side.border_title = "detail"
            self._main.query_one("#detail", Static).update(Text(words, "dim"))
        else:
            self.side.show(self.watched, grid)
        self._main.query_one("#events", Static).update(self._events())
        grid.styles.height = max(1, len(grid.groups)) + 6

    def _show_progress(self) -> None:
        self._main.query_one("#progress", Static).update(progress_line(self.watched))

    def _events(self) -> RenderableType:
        history, board = self.watched.history, self.watched.board
        if history is None or not board.tasks:
            return ""
        try:
            events = self.watched.events(self.grid.column)
            return detail.during(board, events, self.grid.column)
        except HistoryError as error:
            return Text(str(error), "bold red")

    @on(Grid.Moved)
    def _moved(self) -> None:
        self.show_all()

    @on(OptionList.OptionHighlighted)
    def _run_reached(self, event: OptionList.OptionHighlighted) -> None:
        run = self.run_list.run_at(event.option_index)
        if self.run_list.has_focus and run is not None and run is not self.watched:
            self.show_run(run)

    @on(OptionList.OptionSelected)
    def _run_chosen(self, event: OptionList.OptionSelected) -> None:
        run = self.run_list.run_at(event.option_index)
        if run is None:
            self.run_list.fold(event.option_index)
            return
        self.show_run(run)
        self.grid.focus()

    @on(Input.Submitted)
    def _filtered(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        event.input.display = False
        if self._filters_runs:
            self.run_list.keep(text)
            self.run_list.focus()
            return
        self.grid.focus()
        if "#" in text:
            self._open_unit(text)
        else:
            self.grid.wanted, self.grid.row, self.side.unit = text, 0, None
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
        grid.row, self.side.unit, grid.marks = grid.groups.index(group), number, ()

    def action_step(self, tasks: int) -> None:
        """Move to another task, and show its group."""
        self.side.training = False
        self.grid.move(tasks=tasks)

    def action_row(self, rows: int) -> None:
        """Move to another group, and show it."""
        self.side.unit, self.side.training = None, False
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
            side = self.side
            side.unit = detail.neighbour(history, group, self.grid.column, side.unit, step)
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
        """Open the input line for the filter of the list, if that has the focus, or of groups."""
        line = self._main.query_one("#filter", Input)
        self._filters_runs = self.run_list.has_focus
        line.value = self.run_list.words if self._filters_runs else self.grid.wanted
        line.placeholder = (
            "words in a run's name, method, stream or status"
            if self._filters_runs
            else "part of a group's name, or a unit: fc1#17"
        )
        line.display = True
        line.focus()

    def action_sort(self) -> None:
        """Sort the list of runs in the next order."""
        self.run_list.sort()

    def action_training(self) -> None:
        """Show how training goes, or the group again."""
        side = self.side
        side.training = not side.shows_training(self.watched)
        side.unit, self.grid.marks = None, ()
        self.show_all()

    def action_leave(self) -> None:
        """Close the unit, the difference and the filters."""
        line = self._main.query_one("#filter", Input)
        if line.display:
            line.display = False
        elif self.run_list.has_focus:
            self.run_list.keep("")
            return
        else:
            self.side.reset()
            self.grid.marks, self.grid.wanted = (), ""
        self.grid.focus()
        self.show_all()

    def action_run(self) -> None:
        """Show the next run of the list."""
        shown = self.run_list.shown
        if shown:
            at = shown.index(self.watched) if self.watched in shown else -1
            self.show_run(shown[(at + 1) % len(shown)])

    def action_help(self) -> None:
        """Show all keys."""
        self.push_screen(Help())

    def action_export(self) -> None:
        """Ask for a format, then write a file; refuse while there is nothing to write."""
        if not self.watched.board.tasks:
            self.notify("nothing to export yet: no task of a run is shown", severity="warning")
            return
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
