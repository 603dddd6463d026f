"""The detail on the right, or below: a group, a unit, a difference, or how training goes."""

from rich.console import Group, RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from growmas.browser import detail
from growmas.browser.grid import Grid
from growmas.browser.watched_run import WatchedRun
from growmas.errors import HistoryError
from growmas.terminal.curves import CurvePanel

_LEAST_ROWS, _MOST_ROWS = 3, 8  # of the plot of the loss
_OTHER_LINES = 5  # of the panel: task numbers, and the numbers below


class Side(VerticalScroll, can_focus=False):
    """The pane with details of the run that is shown.

    Attributes:
        unit: Id of the unit that is shown; None for none.
        training: True to show how training goes, False to show the group under the cursor; None
            for the first while the run goes on, and the second otherwise.
    """

    def __init__(self) -> None:
        super().__init__(id="side")
        self.unit: int | None = None
        self.training: bool | None = None

    def compose(self) -> ComposeResult:
        """Yield the text."""
        yield Static(id="detail")

    def reset(self) -> None:
        """Forget the unit and the choice between training and group."""
        self.unit, self.training = None, None

    def shows_training(self, run: WatchedRun) -> bool:
        """Return True if training is shown, given that no unit and no difference is."""
        return run.status == "running" if self.training is None else self.training

    def show(self, run: WatchedRun, grid: Grid) -> None:
        """Show what was chosen of a run, at the cursor of the grid."""
        try:
            self.border_title, content = self._content(run, grid)
        except HistoryError as error:
            self.border_title, content = "detail", Text(str(error), "bold red")
        self.query_one("#detail", Static).update(content)

    def _content(self, run: WatchedRun, grid: Grid) -> tuple[str, RenderableType]:
        history, group, board = run.history, grid.group, run.board
        if history is not None and board.tasks and group is not None:
            if len(grid.marks) == 2:
                return "difference", detail.two_tasks(history, board, *sorted(grid.marks))
            if self.unit is not None:
                return "unit", detail.unit_life(history, group, self.unit)
        if self.shows_training(run):
            return "training", self._training(run)
        if run.status == "waiting":
            return "detail", Text("this run of the sweep has not begun", "dim")
        if run.trouble is not None:
            return "detail", Text(run.trouble, "bold red")
        if history is None or not board.tasks or group is None:
            return "detail", Text("nothing to show yet", "dim")
        events = run.events(grid.column)
        return "group", detail.group_at(history, board, events, group, grid.column)

    def _training(self, run: WatchedRun) -> RenderableType:
        """Return the reason of an end, and the curves as high as there is room."""
        parts: list[RenderableType] = []
        if run.entry is not None and (reason := run.entry.reason or run.entry.problem):
            parts.append(Text(f"{run.status}: {reason}", "bold"))
        if run.curves:
            room = self.size.height - _OTHER_LINES
            rows = max(_LEAST_ROWS, min(_MOST_ROWS, room))
            parts.append(CurvePanel(run.curves, rows))
        else:
            parts.append(Text("no epoch is done yet", "dim"))
        return Group(*parts)
