"""Observers of runs: the events of a run, and the base class of what follows them.

Nothing here imports torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from growmas.runs.result import RunResult

Ending = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class TaskDone:
    """A task was learnt and all tasks so far were tested.

    Attributes:
        index: Position of the task in the stream, from 0.
        results: Everything known by now.
        step: Training steps done so far, over all tasks.
    """

    index: int
    results: RunResult
    step: int = 0


@dataclass(frozen=True)
class RunBegun:
    """A run begins, or goes on from its last checkpoint.

    Attributes:
        folder: The run directory; its `history.db` can be read at any moment.
        results: Everything known by now, with the id of the run, which it keeps when it is resumed.
        config: The experiment with all defaults, as JSON values.
        step: Training steps done so far; 0 for a new run.
        resumed: True if the run goes on. What was reported of later steps before is reported again,
            with the same numbers.
        last: The task that ended at this step, which may not have been reported; else None.
    """

    folder: Path
    results: RunResult
    config: Mapping[str, Any]
    step: int = 0
    resumed: bool = False
    last: TaskDone | None = None


@dataclass(frozen=True)
class ScalarsWritten:
    """Numbers of training were written to the history.

    Attributes:
        step: Training steps done so far, over all tasks.
        task: Name of the task that is being learnt.
        epoch: Number of the pass over its data, from 1; None where there are no passes.
        values: Name -> number: loss, learning_rate, penalty, and accuracy/validation or
            accuracy/training.
    """

    step: int
    task: str
    epoch: int | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class EpochDone:
    """Report of one pass over a task's training data.

    Attributes:
        index: Of the task.
        task: Its name.
        epoch: Number of the pass, from 1.
        loss: Mean task loss per sample over the epoch, penalty left out.
        penalty: Mean penalty per step over the epoch.
    """

    index: int
    task: str
    epoch: int
    loss: float
    penalty: float


@dataclass(frozen=True)
class RunEnded:
    """A run has ended.

    Attributes:
        status: "finished", "stopped" by a signal, or "failed".
        reason: Why it was stopped or has failed, else "".
    """

    status: Ending
    reason: str = ""


class Observer:
    """Follows a run; a subclass overrides the methods of the events that it wants to hear of.

    The methods are called in the process of the run, between two steps, once what they report is on
    disk. An exception in one of them ends the run, which can then be resumed. A config names an
    observer by ``log: [{kind: python, target: "mine:Mail"}]``::

        class Mail(growmas.Observer):
            def task_done(self, done):
                send(f"task {done.index}: {done.results.average_accuracy:.3f}")
    """

    def run_begun(self, begun: RunBegun) -> None:
        """Act when a run begins or goes on, before its first step."""

    def scalars_written(self, written: ScalarsWritten) -> None:
        """Act when numbers of training were written."""

    def epoch_done(self, done: EpochDone) -> None:
        """Act when a pass over the data of a task is done; on task-free streams a task."""

    def task_done(self, done: TaskDone) -> None:
        """Act when a task was learnt and tested, and its results are on disk."""

    def note(self, text: str) -> None:
        """Act on a remark in words."""

    def run_ended(self, ended: RunEnded) -> None:
        """Act when a run has ended; a process that is killed does not report it."""


class Observers(Observer):
    """Several observers, which are told of every event in their order.

    Args:
        observers: The observers, which may lack methods; None is left out.
    """

    def __init__(self, observers: Iterable[object]) -> None:
        self._observers = tuple(each for each in observers if each is not None)

    def run_begun(self, begun: RunBegun) -> None:
        """Tell all of the event."""
        self._tell("run_begun", begun)

    def scalars_written(self, written: ScalarsWritten) -> None:
        """Tell all of the event."""
        self._tell("scalars_written", written)

    def epoch_done(self, done: EpochDone) -> None:
        """Tell all of the event."""
        self._tell("epoch_done", done)

    def task_done(self, done: TaskDone) -> None:
        """Tell all of the event."""
        self._tell("task_done", done)

    def note(self, text: str) -> None:
        """Tell all of the remark."""
        self._tell("note", text)

    def run_ended(self, ended: RunEnded) -> None:
        """Tell all of the event."""
        self._tell("run_ended", ended)

    def _tell(self, method: str, event: object) -> None:
        for each in self._observers:
            act = getattr(each, method, None)
            if act is not None:
                act(event)
