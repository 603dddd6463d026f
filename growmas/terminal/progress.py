"""How a run goes, as it goes: a live bar in a terminal, a line per task anywhere else."""

from typing import TYPE_CHECKING

from rich.console import Console

from growmas.terminal.live_bar import LiveBar

if TYPE_CHECKING:
    from growmas.experiment.observer import TaskDone
    from growmas.training.learner import EpochDone


class RunProgress(LiveBar):
    """Observes a run and prints; use it as a context manager.

    Args:
        console: Where to print. A console that is no terminal gets plain lines.
        tasks: Number of tasks of the run.
        epochs: Epochs per task.
    """

    def __init__(self, console: Console, *, tasks: int, epochs: int) -> None:
        super().__init__(console, "epochs", total=tasks * epochs)
        self._tasks = tasks
        self._epochs = epochs

    def epoch_done(self, done: "EpochDone") -> None:
        """Move the bar on."""
        text = f"task {done.index + 1}/{self._tasks}  {done.task}  loss {done.loss:.3f}"
        self.move(text, done.index * self._epochs + done.epoch)

    def task_done(self, done: "TaskDone") -> None:
        """Print what the task came to."""
        results = done.results
        row = results.accuracy[-1]
        units = "  ".join(f"{name} {width}" for name, width in results.units.items())
        self.say(
            f"task {done.index + 1}/{self._tasks}  {results.tasks[done.index]}  "
            f"accuracy {row[-1]:.3f}  mean so far {sum(row) / len(row):.3f}  "
            f"{units}  {results.parameters:,} parameters"
        )
