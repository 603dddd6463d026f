"""Curves of a run: loss, penalty, learning rate and accuracy while it learnt."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from growmas.errors import RunError
from growmas.history import TopologyHistory
from growmas.runs.finding import HISTORY
from growmas.runs.result import METRICS, RunResult, read_result

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
        training: The same on some of its training samples, where there are no validation samples;
            on a task-free stream on the last ones, in the context that is being learnt.
        mean_accuracy: Mean test accuracy over the tasks so far, measured after the task; at its
            last point, else None.
        signals: Other numbers by name, such as "dormant": those written at this step, and at the
            last point of a task those measured after the task.
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
    mean_accuracy: float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """Accuracy on validation samples, or on training samples where there are none."""
        return self.training if self.validation is None else self.validation


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
        with TopologyHistory(history) as read, read.frozen():
            found = points_of(read, _result(path))
        if found:
            return found
    if (path / CURVES).is_file():
        return _read_lines(path / CURVES)
    raise RunError(
        f"{path} has no curves: it has learnt nothing yet, or was written by an earlier version; "
        "growmas shifts shows the losses of a task-free run"
    )


def _result(path: Path) -> RunResult | None:
    """Return the result of a run; None without one that can be read."""
    if not (path / METRICS).is_file():
        return None
    try:
        return read_result(path)
    except RunError:
        return None


def points_of(history: TopologyHistory, result: RunResult | None = None) -> tuple[CurvePoint, ...]:
    """Return the points of a history; none if it has no scalars.

    Args:
        history: An open history, best `frozen`.
        result: Of the run; without it the mean accuracies are those of the history's snapshots.
    """
    rows = [row for row in result.accuracy if row] if result else []
    means = [sum(row) / len(row) for row in rows]
    mean_of = dict(zip(result.tasks, means, strict=False)) if result else {}
    found, metrics = history.scalars(), history.all_metrics()
    order = {name: index for index, name in enumerate(dict.fromkeys(each.task for each in found))}
    last = {each.task: index for index, each in enumerate(found)}
    points = []
    for index, each in enumerate(found):
        named = {to: each.values.get(name) for name, to in _NAMES.items()}
        signals = {name: value for name, value in each.values.items() if name not in _NAMES}
        point = CurvePoint(
            order[each.task], each.task, each.epoch, each.step, **named, signals=signals
        )
        if index == last[each.task]:
            point = _measured(point, metrics.get(each.task, {}), mean_of.get(each.task))
        points.append(point)
    return tuple(points)


def _measured(point: CurvePoint, metrics: Mapping[str, float], mean: float | None) -> CurvePoint:
    """Add what was measured after the task of a point."""
    if mean is None:
        each = [value for name, value in metrics.items() if name.startswith("accuracy/")]
        mean = metrics.get("accuracy", sum(each) / len(each) if each else None)
    others = {
        name: metrics[name]
        for name in metrics
        if name.partition("/")[0] not in ("accuracy", "validation")
    }
    return replace(point, mean_accuracy=mean, signals={**point.signals, **others})


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
