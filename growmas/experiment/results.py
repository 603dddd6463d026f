"""Results of a run, filled in as it goes."""

import time
from collections.abc import Sequence

import torch

from growmas import __version__
from growmas.config import Experiment
from growmas.data import Stream, TaskFreeStream
from growmas.runs import RunResult
from growmas.structure import Structure


def first_result(
    experiment: Experiment, stream: Stream | TaskFreeStream, structure: Structure
) -> RunResult:
    """Return the result of a run that has learnt no task yet."""
    return RunResult(
        name=experiment.name,
        method=experiment.method.kind,
        stream=stream.name,
        scenario=stream.scenario,
        seed=experiment.seed,
        tasks=[task.name for task in stream.tasks],
        accuracy=[],
        parameters=structure.parameters,
        units=group_widths(structure),
        seconds=0.0,
        status="unfinished",
        started=time.time(),
        versions={"growmas": __version__, "torch": torch.__version__},
    )


def group_widths(structure: Structure) -> dict[str, int]:
    """Return the width of every group, by name."""
    return {name: group.width for name, group in structure.groups.items()}


def accuracy_metrics(stream: Stream | TaskFreeStream, row: Sequence[float]) -> dict[str, float]:
    """Return the metrics of a snapshot: the accuracy on each task so far, and their mean."""
    named = {f"accuracy/{t.name}": a for t, a in zip(stream.tasks, row, strict=False)}
    return {**named, "accuracy": sum(row) / len(row)}
