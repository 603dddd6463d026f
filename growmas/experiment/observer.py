"""Observers, which are told how a run goes."""

from dataclasses import dataclass
from typing import Protocol

from growmas.runs import RunResult
from growmas.training.learner import EpochDone


@dataclass(frozen=True)
class TaskDone:
    """A task was learnt and all tasks so far were tested.

    Attributes:
        index: Of the task.
        results: Everything known by now.
    """

    index: int
    results: RunResult


class Observer(Protocol):
    """Follows a run."""

    def epoch_done(self, done: EpochDone) -> None:
        """Take note of an epoch."""

    def task_done(self, done: TaskDone) -> None:
        """Take note of a task, when its results are on disk."""


def tell(observer: Observer | None, text: str) -> None:
    """Tell an observer something in words, if it has a method `note`."""
    note = getattr(observer, "note", None)
    if note is not None:
        note(text)
