"""Task-aware runs: a stream of tasks learnt into a run directory."""

from dataclasses import asdict, replace
from functools import partial

from growmas.config import ANSWER_BY_TASK, OrderedConfig
from growmas.data import Task, own_heads
from growmas.experiment.blame import blame_own
from growmas.experiment.learners import build_task_aware, task_aware_state
from growmas.experiment.results import (
    accuracy_metrics,
    epoch_scalars,
    first_result,
    flops_per_sample,
    group_widths,
    validation_accuracy,
    with_validation,
)
from growmas.experiment.session import Session
from growmas.experiment.signals import Signals
from growmas.experiment.streams import build_stream
from growmas.history.tracker import TopologyTracker
from growmas.manager import AutoProtection
from growmas.runs import RunResult
from growmas.runs.observer import ScalarsWritten, TaskDone
from growmas.training.learner import TaskAwareLearner
from growmas.training.methods.method import through


def run_task_aware(run: Session, *, resume: bool) -> RunResult:
    """Learn the tasks of a stream one after another; see `run_experiment`."""
    experiment, observer = run.experiment, run.observer
    stream = build_stream(experiment)
    lessons = own_heads(stream) if experiment.method.kind in ANSWER_BY_TASK else stream
    state = run.saved_state(resume=resume)
    task_known = stream.scenario == "task"
    learner = build_task_aware(experiment, lessons, task_known=task_known, state=state)
    method = learner.method
    if state is None:
        run.begin(first_result(experiment, stream, method.structure))
    else:
        run.resume(state)
    signals = Signals(experiment.signals, method.structure, experiment.device)
    with run.open_history(method.structure, state) as tracker, blame_own(experiment):
        ended = learner.between_tasks and bool(run.result.accuracy)
        run.tell_begun(learner.steps, resumed=state is not None, ended=ended)
        for task in lessons.tasks[len(run.result.accuracy) :]:
            _look_ahead(run, learner, stream.tasks[task.index])
            learner.after_step = partial(_step_done, run, learner, tracker, signals, task)
            for epoch in learner.learn(task):
                if (task.index, epoch.epoch) == (1, 1):
                    _tell_choice(run, learner, tracker, task)
                numbers = epoch_scalars(learner, task, epoch)
                step = learner.steps
                tracker.scalars(numbers, step=step, task=epoch.task, epoch=epoch.epoch)
                observer.scalars_written(ScalarsWritten(step, epoch.task, epoch.epoch, numbers))
                observer.epoch_done(epoch)
            row = [learner.accuracy(known) for known in stream.tasks[: task.index + 1]]
            held = validation_accuracy(learner, stream.tasks[: task.index + 1])
            result = with_validation(_updated(run.result, learner, row), held)
            run.folder.check_held()
            omega = (method.mas.omega or None) if method.mas else None
            tracker.snapshot(metrics=accuracy_metrics(stream, row, held), omega=omega)
            _save(run, learner, tracker, result)
            run.update(result)
            observer.task_done(TaskDone(task.index, result, learner.steps))
            run.agree()
            if not result.finished:
                run.check_stop()
    return run.result


def _tell_choice(
    run: Session, learner: TaskAwareLearner, tracker: TopologyTracker, task: Task
) -> None:
    """Note the protection that was chosen, and write the scores to the history."""
    manager = learner.method.manager
    protect = manager.protect if manager else None
    if isinstance(protect, AutoProtection) and protect.choice:
        run.observer.note(str(protect.choice))
        scores = {f"protection/{each}": score for each, score in protect.choice.scores}
        tracker.scalars(scores, step=learner.steps, task=task.name, epoch=1)


def _look_ahead(run: Session, learner: TaskAwareLearner, task: Task) -> None:
    """Measure the accuracy on the test samples of a period of time that is not learnt yet."""
    experiment, ahead = run.experiment, run.result.ahead
    known = isinstance(experiment.stream, OrderedConfig) and experiment.stream.scenario == "domain"
    if known and len(ahead) < task.index:  # a run that is resumed has measured it before
        run.update(replace(run.result, ahead=[*ahead, learner.accuracy(task)]))


def _step_done(
    run: Session,
    learner: TaskAwareLearner,
    tracker: TopologyTracker,
    signals: Signals,
    task: Task,
) -> None:
    """Write signals and save the state if that is due, and end the run if a signal came."""
    signals.after_step(
        tracker,
        lambda most: task.train.take(slice(most)),
        step=learner.steps,
        task=task.name,
        epoch=learner.epoch,
        forward=through(task.head),
    )
    if run.step_done():
        _save(run, learner, tracker, run.result)
    run.check_stop()


def _save(
    run: Session, learner: TaskAwareLearner, tracker: TopologyTracker, result: RunResult
) -> None:
    run.save(task_aware_state(learner), tracker, {"result": asdict(result)})


def _updated(result: RunResult, learner: TaskAwareLearner, row: list[float]) -> RunResult:
    """Return the result with the accuracies after a task, and the network as it is now."""
    method = learner.method
    context_size = getattr(method.context, "size", 0)
    return replace(
        result,
        accuracy=[*result.accuracy, row],
        parameters=method.parameters,
        units=group_widths(method.structure),
        flops=flops_per_sample(method.structure),
        seconds=learner.seconds,
        cpu_seconds=learner.cpu_seconds,
        context_size=context_size,
        memory_size=method.numbers_kept - method.parameters - context_size,
        status="finished" if len(row) == len(result.tasks) else "unfinished",
    )
