"""Task-aware runs: a stream of tasks learnt into a run directory."""

from dataclasses import replace

from growmas.checkpoint import save
from growmas.config import ANSWER_BY_TASK, Experiment
from growmas.data import own_heads
from growmas.experiment.learners import build_task_aware
from growmas.experiment.observer import Observer, TaskDone
from growmas.experiment.results import (
    accuracy_metrics,
    epoch_scalars,
    first_result,
    group_widths,
    validation_accuracy,
    with_validation,
)
from growmas.experiment.streams import build_stream
from growmas.history.tracker import TopologyTracker
from growmas.runs import RunDirectory, RunResult
from growmas.runs.curves import append_curve
from growmas.training.learner import TaskAwareLearner


def run_task_aware(
    experiment: Experiment,
    folder: RunDirectory,
    *,
    overwrite: bool,
    observer: Observer | None,
) -> RunResult:
    """Learn the tasks of a stream one after another; see `run_experiment`."""
    stream = build_stream(experiment)
    lessons = own_heads(stream) if experiment.method.kind in ANSWER_BY_TASK else stream
    learner = build_task_aware(experiment, lessons, task_known=stream.scenario == "task")
    method = learner.method
    result = first_result(experiment, stream, method.structure)
    folder.begin(experiment, result, overwrite=overwrite)
    with TopologyTracker(method.structure, folder.history) as tracker:
        for task in lessons.tasks:
            for epoch in learner.learn(task):
                append_curve(folder.path, epoch_scalars(learner, stream.tasks[task.index], epoch))
                if observer:
                    observer.epoch_done(epoch)
            row = [learner.accuracy(known) for known in stream.tasks[: task.index + 1]]
            held = validation_accuracy(learner, stream.tasks[: task.index + 1])
            result = with_validation(_updated(result, learner, row), held)
            omega = method.mas.omega if method.mas else None
            tracker.snapshot(metrics=accuracy_metrics(stream, row, held), omega=omega)
            save(
                folder.checkpoint,
                structure=method.structure,
                mas=method.mas,
                optimizer=learner.optimizer,
                context=method.context,
                manager=method.manager,
            )
            folder.write_result(result)
            if observer:
                observer.task_done(TaskDone(task.index, result))
    return result


def _updated(result: RunResult, learner: TaskAwareLearner, row: list[float]) -> RunResult:
    """Return the result with the accuracies after a task, and the network as it is now."""
    method = learner.method
    return replace(
        result,
        accuracy=[*result.accuracy, row],
        parameters=method.parameters,
        units=group_widths(method.structure),
        seconds=learner.seconds,
        cpu_seconds=learner.cpu_seconds,
        context_size=getattr(method.context, "size", 0),
        status="finished" if len(row) == len(result.tasks) else "unfinished",
    )
