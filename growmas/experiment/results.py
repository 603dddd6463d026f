"""Results of a run, filled in as it goes."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from growmas import __version__
from growmas.config import Experiment, SourcesConfig
from growmas.data import Stream, Task, TaskFreeStream
from growmas.data.targets import target_hash
from growmas.runs import RunResult
from growmas.runs.observer import EpochDone
from growmas.structure import Structure
from growmas.training.learner import TaskAwareLearner

_SHOWN = 256  # training samples on which the accuracy of an epoch is measured


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
        stream_digest=stream.digest,
        imports=imported_files(experiment),
    )


def imported_files(experiment: Experiment) -> dict[str, str]:
    """Return target -> SHA-256 of the file that it was imported from, for all targets."""
    stream = experiment.stream
    sources = stream.sources if isinstance(stream, SourcesConfig) else (stream.source,)
    changes, log = experiment.training.transforms, experiment.log
    parts = (*sources, experiment.model, experiment.method, *changes, *log)
    targets = [target for part in parts if (target := getattr(part, "target", None))]
    return {target: target_hash(target) for target in targets}


def flops_per_sample(structure: Structure) -> int:
    """Return the FLOPs of a forward pass of one sample; 0 where they cannot be counted."""
    return structure.cost().flops or 0


def group_widths(structure: Structure) -> dict[str, int]:
    """Return the width of every group, by name."""
    return {name: group.width for name, group in structure.groups.items()}


def validation_accuracy(learner: TaskAwareLearner, tasks: Sequence[Task]) -> list[float]:
    """Return the accuracy on the validation samples of each task; empty where there are none."""
    return [
        learner.accuracy(replace(task, test=task.validation))
        for task in tasks
        if task.validation is not None
    ]


def epoch_scalars(learner: TaskAwareLearner, task: Task, done: EpochDone) -> dict[str, float]:
    """Return the numbers of an epoch.

    Args:
        learner: That has just learnt it.
        task: As the method learns it.
        done: The report of the epoch.

    Returns:
        loss, penalty, learning_rate, and accuracy/validation or, where the task has no validation
        samples, accuracy/training: of the task's own head, on up to 256 of its training samples.
    """
    found = {
        "loss": done.loss,
        "penalty": done.penalty,
        "learning_rate": float(learner.optimizer.param_groups[0]["lr"]),
    }
    if task.validation is not None:
        found["accuracy/validation"] = learner.head_accuracy(task, task.validation)
    else:
        step = -(-len(task.train) // _SHOWN)
        rows = torch.arange(0, len(task.train), step)  # evenly from all of it
        found["accuracy/training"] = learner.head_accuracy(task, task.train.subset(rows))
    return found


def with_validation(result: RunResult, accuracies: Sequence[float]) -> RunResult:
    """Return the result with the mean of the accuracies on validation samples, if there are any."""
    if not accuracies:
        return result
    mean = sum(accuracies) / len(accuracies)
    return replace(result, validation=[*result.validation, mean])


def accuracy_metrics(
    stream: Stream | TaskFreeStream, row: Sequence[float], validation: Sequence[float] = ()
) -> dict[str, float]:
    """Return the metrics of a snapshot: the accuracy on each task so far, and their mean.

    Args:
        stream: With the tasks.
        row: Accuracy on the test samples of each task so far.
        validation: The same on validation samples; empty where there are none.
    """
    found = {f"accuracy/{t.name}": a for t, a in zip(stream.tasks, row, strict=False)}
    found["accuracy"] = sum(row) / len(row)
    if validation:
        found |= {f"validation/{t.name}": a for t, a in zip(stream.tasks, validation, strict=False)}
        found["validation"] = sum(validation) / len(validation)
    return found
