"""Base class of loggers: events become numbers by step, and a figure after each task."""

from collections.abc import Callable, Mapping
from typing import TypedDict

from growmas.errors import GrowmasError, RunError
from growmas.history import TopologyHistory
from growmas.loggers.topology import draw_topology, task_numbers, width_numbers
from growmas.runs.finding import HISTORY
from growmas.runs.observer import Observer, RunBegun, RunEnded, ScalarsWritten, TaskDone

Numbers = Mapping[str, float]
Say = Callable[[str], None]


class Place(TypedDict):
    """The task and the epoch that numbers belong to."""

    task: str
    epoch: int | None


class RunLogger(Observer):
    """Base class of loggers: a subclass opens, writes, draws and closes.

    The numbers are read from the history of the run. A logger that fails while the run goes on says
    so once and stops; the run and its history go on.

    Attributes:
        begun: The run that is logged; None before it has begun.
        kind: Name of the logger in a config.
        figures: True if figures are wanted.
    """

    kind = "log"

    def __init__(self, say: Say, *, figures: bool = False) -> None:
        """Begin before the run does.

        Args:
            say: Is told in words if the logger fails.
            figures: Draw the topology after every task.
        """
        self.figures = figures
        self.begun: RunBegun | None = None
        self._say = say
        self._live = False

    def run_begun(self, begun: RunBegun) -> None:
        """Open the logger; of a resumed run, continue what was logged.

        Raises:
            RunError: The logger cannot begin.
        """
        self.begun = begun
        try:
            self.open(begun)
        except GrowmasError:
            raise
        except Exception as error:
            raise RunError(
                f"log: {self.kind} cannot begin: {_first_line(error)}; mend its settings, or leave "
                f"{self.kind} out of log"
            ) from error
        self._live = True
        if not begun.resumed:
            self._attempt(lambda: self.write(width_numbers(begun.results), 0, task="", epoch=None))
            return
        with TopologyHistory(begun.folder / HISTORY) as history:
            again = [each for each in history.scalars() if each.step == begun.step]
        for each in again:
            self.scalars_written(ScalarsWritten(each.step, each.task, each.epoch, each.values))
        if begun.last is not None:
            self.task_done(begun.last)

    def scalars_written(self, written: ScalarsWritten) -> None:
        """Write the numbers."""
        at: Place = {"task": written.task, "epoch": written.epoch}
        numbers = dict(sorted(written.values.items()))
        self._attempt(lambda: self.write(numbers, written.step, **at))

    def task_done(self, done: TaskDone) -> None:
        """Write accuracies, widths, births and deaths, and draw the topology."""
        self._attempt(lambda: self._write_task(done))

    def run_ended(self, ended: RunEnded) -> None:
        """Close the logger."""
        self._attempt(lambda: self.close(ended))
        self._live = False

    def open(self, begun: RunBegun) -> None:
        """Begin to log a run, or continue one; what was logged of `begun.step` or later is void."""
        raise NotImplementedError

    def write(self, numbers: Numbers, step: int, *, task: str, epoch: int | None) -> None:
        """Log numbers by name."""
        raise NotImplementedError

    def draw(self, name: str, svg: str, step: int) -> None:
        """Log a figure."""

    def close(self, ended: RunEnded) -> None:
        """End the log of a run."""

    def _write_task(self, done: TaskDone) -> None:
        if self.begun is None:
            return
        with TopologyHistory(self.begun.folder / HISTORY) as history:
            numbers = task_numbers(history, done.results)
            figures = draw_topology(history, done.results) if self.figures else {}
        name = done.results.tasks[done.index]
        self.write(numbers, done.step, task=name, epoch=None)
        for figure, svg in figures.items():
            self.draw(figure, svg, done.step)

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do what a working logger does; one that fails says so once, and is not asked again."""
        if not self._live:
            return
        try:
            action()
        except Exception as error:
            self._live = False
            self._say(
                f"{self.kind} has stopped logging ({_first_line(error)}); the run and its history "
                "go on"
            )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
