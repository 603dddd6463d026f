"""Curves of a run: loss, penalty, learning rate and accuracy while it learnt."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from growmas.errors import RunError
from growmas.history import TopologyHistory
from growmas.runs.finding import HISTORY

CURVES = "curves.jsonl"
"""File of runs of version 0.1; later ones have their curves in the history."""

_NAMES = {
    "loss": "loss",
    "penalty": "penalty",
    "learning_rate": "learning_rate",
    "accuracy/validation": "validation",
    "accuracy/training": "training",
}


@dataclass(frozen=True)
class CurvePoint:
    """Numbers of training: of one epoch, or on a task-free stream of the steps since the last.

    Attributes:
        task: Position of the task among those with numbers, from 0.
        name: Of the task.
        epoch: Number of the pass, from 1; None on a task-free stream.
        step: Training steps done so far; 0 where it is not known.
        loss: Mean task loss per sample, penalty left out.
        penalty: Mean penalty per step; None where it is not known.
        learning_rate: At the end.
        validation: Accuracy of the task's own head on its validation samples; None without any.
        training: The same on some of its training samples, where there are no validation samples.
    """

    task: int
    name: str
    epoch: int | None
    step: int = 0
    loss: float | None = None
    penalty: float | None = None
    learning_rate: float | None = None
    validation: float | None = None
    training: float | None = None


def read_curves(path: Path) -> tuple[CurvePoint, ...]:
    """Read the curves of a run.

    Args:
        path: Of its directory, or of a history.

    Raises:
        RunError: There are none, or the file is damaged.
        HistoryError: The history cannot be read.
    """
    history = path / HISTORY if path.is_dir() else path
    if history.is_file():
        with TopologyHistory(history) as read:
            found = read.scalars()
        if found:
            tasks = {each.task: None for each in found}
            order = {name: index for index, name in enumerate(tasks)}
            return tuple(
                CurvePoint(
                    order[each.task],
                    each.task,
                    each.epoch,
                    each.step,
                    **{field: each.values.get(name) for name, field in _NAMES.items()},
                )
                for each in found
            )
    if (path / CURVES).is_file():
        return _read_lines(path / CURVES)
    raise RunError(
        f"{path} has no curves: it has learnt nothing yet, or was written by an earlier version; "
        "growmas shifts shows the losses of a task-free run"
    )


def _read_lines(path: Path) -> tuple[CurvePoint, ...]:
    """Read the file of an earlier version; of an epoch that was repeated, the last numbers."""
    known = {each.name for each in fields(CurvePoint)}
    found: dict[tuple[int, int], CurvePoint] = {}
    content = path.read_bytes()
    lines = content[: content.rfind(b"\n") + 1].splitlines()  # a kill leaves the last incomplete
    for number, line in enumerate(lines, start=1):
        try:
            values: Mapping[str, Any] = json.loads(line)
            point = CurvePoint(**{name: values[name] for name in values if name in known})
            found[point.task, point.epoch or 0] = point
        except (ValueError, TypeError, AttributeError) as error:
            raise RunError(f"{path}:{number} is damaged: run the experiment again") from error
    return tuple(found[key] for key in sorted(found))
