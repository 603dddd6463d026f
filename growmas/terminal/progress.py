"""Progress of a run: a live bar in a terminal, a line per task elsewhere."""

from rich.console import Console

from growmas.runs.observer import EpochDone, Observer, TaskDone
from growmas.terminal.live_bar import LiveBar


class RunProgress(LiveBar, Observer):
    """A printer of a run's progress; use it as a context manager.

    Args:
        console: Console to print to. If it is not a terminal, only plain lines are printed.
        tasks: Number of tasks of the run.
        epochs: Number of epochs per task.
    """

    def __init__(self, console: Console, *, tasks: int, epochs: int) -> None:
        super().__init__(console, "epochs", total=tasks * epochs)
        self._tasks = tasks
        self._epochs = epochs

    def epoch_done(self, done: EpochDone) -> None:
        """Move the bar."""
        text = f"task {done.index + 1}/{self._tasks}  {done.task}  loss {done.loss:.3f}"
        self.move(text, done.index * self._epochs + done.epoch)

    def note(self, text: str) -> None:
        """Print a remark."""
        self.say(text)

    def task_done(self, done: TaskDone) -> None:
        """Print the results of the task."""
        results = done.results
        row = results.accuracy[-1]
        units = "  ".join(f"{name} {width}" for name, width in results.units.items())
        self.say(
            f"task {done.index + 1}/{self._tasks}  {results.tasks[done.index]}  "
            f"accuracy {row[-1]:.3f}  mean so far {sum(row) / len(row):.3f}  "
            f"{units}  {results.parameters:,} parameters"
        )
