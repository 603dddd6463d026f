"""Progress of a run: how much of it is done, by its curves, its config and its stream."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from growmas.config import config_leaves
from growmas.errors import ConfigError
from growmas.runs.curves import CurvePoint
from growmas.runs.directory import CONFIG
from growmas.runs.result import RunResult
from growmas.runs.trace import TRACE


@dataclass(frozen=True)
class Progress:
    """Number of tasks, epochs or steps that a run has done, and that it will do.

    Attributes:
        task: Number of the task in progress, from 1; that of the last one when all are learnt.
        tasks: Number of tasks.
        done: Epochs of that task, or steps of a task-free stream, that are done.
        total: Epochs per task, or steps of the stream; None where the config does not say.
        unit: "epoch" or "step".
        share: Part of the whole run that is done, from 0 to 1; None where `total` is.
    """

    task: int
    tasks: int
    done: int
    total: int | None
    unit: str
    share: float | None

    def __str__(self) -> str:
        """Return it in words.

        >>> str(Progress(2, 5, 3, 10, "epoch", 0.26)), str(Progress(2, 5, 120, 300, "step", 0.4))
        ('task 2/5, epoch 3/10', 'task 2/5, step 120/300')
        """
        total = "" if self.total is None else f"/{self.total:,}"
        return f"task {self.task}/{self.tasks}, {self.unit} {self.done:,}{total}"


def read_progress(folder: Path, result: RunResult, points: Sequence[CurvePoint]) -> Progress:
    """Return how much of a run is done.

    Args:
        folder: Of the run.
        result: So far.
        points: Of its curves so far.
    """
    tasks = len(result.tasks)
    last = points[-1] if points else None
    if (folder / TRACE).is_file():
        return _steps(folder, result, last)
    total = _epochs(folder)
    begun = last is not None and last.name in result.tasks
    task = result.tasks.index(last.name) + 1 if last and begun else 1
    epoch = (last.epoch or 0) if last and begun else 0
    if result.learnt >= task and task < tasks:  # nothing of the next one is written yet
        task, epoch = result.learnt + 1, 0
    share = None
    if result.finished:
        share = 1.0
    elif total:
        share = min(1.0, (task - 1 + epoch / total) / max(1, tasks))
    return Progress(task, tasks, epoch, total, "epoch", share)


def _steps(folder: Path, result: RunResult, last: CurvePoint | None) -> Progress:
    total, done = _stream_steps(folder), last.step if last else 0
    tasks = len(result.tasks)
    share = 1.0 if result.finished else min(1.0, done / total) if total else None
    return Progress(min(tasks, result.learnt + 1), tasks, done, total, "step", share)


def _epochs(folder: Path) -> int | None:
    """Return the epochs of each task; None if the config does not say."""
    try:
        value = config_leaves(folder / CONFIG).get("training.epochs")
    except ConfigError:
        return None
    return value if isinstance(value, int) and value > 0 else None


def _stream_steps(folder: Path) -> int | None:
    """Return the steps of a task-free stream; None if its trace does not say."""
    try:
        with (folder / TRACE).open(encoding="utf-8") as file:
            steps = json.loads(file.readline())["steps"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return steps if isinstance(steps, int) and steps > 0 else None
