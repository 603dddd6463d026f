"""Task-free runs: a whole task-free stream learnt into a run directory."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from growmas.data import Task, TaskFreeStream, batches
from growmas.data.task_free import StreamBatch
from growmas.data.transforms import Transform
from growmas.errors import RunError
from growmas.experiment.learners import build_task_free, head_count
from growmas.experiment.models import build_structure
from growmas.experiment.optimizers import build_optimizer
from growmas.experiment.randomness import derived_seed
from growmas.experiment.results import (
    accuracy_metrics,
    first_result,
    flops_per_sample,
    group_widths,
)
from growmas.experiment.session import Session
from growmas.experiment.signals import Signals
from growmas.experiment.streams import build_task_free_stream
from growmas.experiment.transforms import build_transforms
from growmas.history.tracker import TopologyTracker
from growmas.runs import RunResult, TraceWriter
from growmas.runs.observer import EpochDone, ScalarsWritten, TaskDone
from growmas.runs.trace import TRACE
from growmas.structure import Structure
from growmas.training.learner import EVALUATION_BATCH
from growmas.training.methods.own_state import numbers_in
from growmas.training.task_free import StepDone, TaskFreeLearner, TaskFreeMAS, TaskFreeMethod

CURVE_POINTS = 10
"""Points of the curves for each task, or of a stream that drifts for all of it."""

_SHOWN = 64  # samples whose accuracy is a point of the curves


def run_task_free(run: Session, *, resume: bool) -> RunResult:
    """Learn a task-free stream; see `run_experiment`."""
    experiment, observer = run.experiment, run.observer
    stream = build_task_free_stream(experiment)
    structure = build_structure(experiment, stream, heads=head_count(experiment))
    optimizer = build_optimizer(experiment.training, structure.model.parameters())
    seed = derived_seed(experiment.seed, "context")
    learner = build_task_free(experiment, structure, optimizer, seed=seed)
    transforms = build_transforms(experiment, stream)
    stream_run = StreamRun(learner, structure, stream, run, optimizer, transforms=transforms)
    state = run.saved_state(resume=resume)
    if state is None:
        run.begin(first_result(experiment, stream, structure))
        stream_run.begin()
    else:
        run.resume(state)
        stream_run.load_state_dict(state)
    with run.open_history(structure, state) as tracker:
        ended = learner.step in stream_run.evaluations
        run.tell_begun(learner.step, resumed=state is not None, ended=ended)
        for done in stream_run.go(tracker):
            result = _updated(run.result, stream_run, done)
            run.update(result)
            name = stream.tasks[done.index].name
            observer.epoch_done(EpochDone(done.index, name, 1, done.loss, done.penalty))
            observer.task_done(TaskDone(done.index, result, learner.step))
    return run.result


@dataclass(frozen=True)
class Evaluated:
    """The tasks so far were tested.

    Attributes:
        index: Of the task that has just gone by for the first time, or of the last one, at the
            end of the stream.
        row: Accuracy on each task up to it.
        loss: Mean loss since the last evaluation.
        penalty: Mean penalty since then.
    """

    index: int
    row: tuple[float, ...]
    loss: float
    penalty: float


class StreamRun:
    """Learns a stream and writes `stream.jsonl`, `history.db` and checkpoints.

    Attributes:
        learner: Learns the stream.
        structure: The units of its network.
        seconds: Wall time spent learning.
        cpu_seconds: CPU time of the process during `seconds`.
    """

    def __init__(
        self,
        learner: TaskFreeLearner | TaskFreeMAS | TaskFreeMethod,
        structure: Structure,
        stream: TaskFreeStream,
        run: Session,
        optimizer: Optimizer,
        *,
        transforms: Sequence[Transform] = (),
    ) -> None:
        """Put the parts together.

        Args:
            learner: Fresh.
            structure: The units of its network.
            stream: With an end.
            run: Holds the run directory.
            optimizer: Of the learner; its learning rate is recorded.
            transforms: Random changes of training inputs.

        Raises:
            RunError: The stream has no end.
        """
        if stream.steps is None:
            raise RunError(f"{stream.name!r} has no end: a run needs one, give visits")
        self.learner = learner
        self.structure = structure
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._stream = stream
        self._steps = stream.steps
        self._run = run
        self._losses: list[float] = []
        self._penalties: list[float] = []
        self._optimizer = optimizer
        self._transforms = tuple(transforms)
        self._signals = Signals(run.experiment.signals, structure, run.experiment.device)
        self._window = max(1, min(stream.steps_per_task, stream.steps) // CURVE_POINTS)

    def begin(self) -> None:
        """Give a network of fixed size its only task."""
        if not isinstance(self.learner, TaskFreeLearner):
            self.structure.begin_task("stream")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a checkpoint.

        Raises:
            RunError: The trace of the run is missing.
            GrowmasError: The state does not fit.
        """
        if not self._run.folder.trace.exists():
            raise RunError(
                f"{self._run.folder.path} has lost its {TRACE}: start it anew with --overwrite"
            )
        if not isinstance(self.learner, TaskFreeLearner):
            replaced = self.structure.load_state_dict(state["structure"])
            for group in self.learner.optimizer.param_groups:
                group["params"] = [replaced.get(p, p) for p in group["params"]]
        self.learner.load_state_dict(state)
        run = state["run"]
        self.seconds, self.cpu_seconds = run["seconds"], run["cpu_seconds"]
        self._losses = list(run["losses"])
        self._penalties = list(run.get("penalties", ()))  # earlier files have none

    def go(self, tracker: TopologyTracker) -> Iterator[Evaluated]:
        """Learn the stream from where the learner is; yields at every evaluation."""
        if isinstance(self.learner, TaskFreeLearner):
            self.learner.tracker = tracker
        moments = {step: index for index, step in enumerate(self.evaluations)}
        header, start = _header(self._stream), self.learner.step
        with TraceWriter(self._run.folder.path, header, start=start) as trace:
            for batch in self._batches(start):
                done = self._learn(batch)
                self._write(trace, done)
                self._note(tracker, batch)
                self._signals.after_step(
                    tracker,
                    partial(_first, batch.inputs if batch.plain is None else batch.plain),
                    step=batch.step + 1,
                    task=self._stream.tasks[batch.task].name,
                )
                due, index = self._run.step_done(), moments.get(batch.step + 1)
                if index is not None:
                    evaluated = self._evaluate(index)
                    metrics = accuracy_metrics(self._stream, evaluated.row)
                    tracker.snapshot(metrics=metrics)
                    self._save(trace, tracker, _updated(self._run.result, self, evaluated))
                    yield evaluated
                elif due or done.shift is not None:
                    self._save(trace, tracker, self._run.result)
                if self.learner.step < self._steps:
                    self._run.check_stop()

    def _note(self, tracker: TopologyTracker, batch: StreamBatch) -> None:
        """Write the next point of the curves, where it is due: means since the last one."""
        if (batch.step + 1) % self._window and batch.step + 1 < self._steps:
            return
        numbers = {
            "loss": _mean(self._losses[-self._window :]),
            "penalty": _mean(self._penalties[-self._window :]),
            "learning_rate": float(self._optimizer.param_groups[0]["lr"]),
            "accuracy/training": self._accuracy_just_now(batch.step),
        }
        name = self._stream.tasks[batch.task].name
        tracker.scalars(numbers, step=batch.step + 1, task=name)
        self._run.observer.scalars_written(ScalarsWritten(batch.step + 1, name, None, numbers))

    def _batches(self, start: int) -> Iterator[StreamBatch]:
        training = self._run.experiment.training
        return self._stream.batches(
            start,
            transforms=self._transforms,
            input_dropout=training.input_dropout,
            workers=training.workers,
        )

    def _accuracy_just_now(self, step: int) -> float:
        """Return the accuracy on up to 64 of the last samples, in the context being learnt."""
        found: list[bool] = []
        for before in range(step, -1, -1):
            batch = self._stream.batch(before)
            inputs = batch.inputs.to(self._run.experiment.device)
            if isinstance(self.learner, TaskFreeLearner):
                logits = self.learner.outputs.answer(inputs, self.learner.memory.current)
            else:
                logits = self.learner.predict(inputs)
            found += (logits.argmax(1).cpu() == batch.labels.cpu()).tolist()
            if len(found) >= _SHOWN or not before % self._window:
                break
        return _mean(found[:_SHOWN])

    def _learn(self, batch: StreamBatch) -> StepDone:
        device = self._run.experiment.device
        inputs, labels = batch.inputs.to(device), batch.labels.to(device)
        plain = None if batch.plain is None else batch.plain.to(device)
        wall, cpu = time.perf_counter(), time.process_time()
        done = self.learner.learn(inputs, labels, plain=plain)
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu
        self._losses.append(done.loss)
        self._penalties.append(done.penalty)
        return done

    def _evaluate(self, index: int) -> Evaluated:
        row = tuple(self.accuracy(task) for task in self._stream.tasks[: index + 1])
        done = Evaluated(index, row, _mean(self._losses), _mean(self._penalties))
        self._losses, self._penalties = [], []
        return done

    def accuracy(self, task: Task) -> float:
        """Return the share of the task's test samples answered right, the task unknown."""
        right = 0
        for inputs, labels in batches(task.test, EVALUATION_BATCH):
            logits = self.learner.predict(inputs.to(self._run.experiment.device))
            right += int((logits.argmax(1).cpu() == labels).sum())
        return right / len(task.test)

    @property
    def evaluations(self) -> list[int]:
        """Numbers of steps after which tasks are tested, one for each task."""
        tasks = len(self._stream.tasks)
        drifts = self._stream.steps_per_task == self._steps
        first = self._steps // tasks if drifts else self._stream.steps_per_task
        return [*(first * number for number in range(1, tasks)), self._steps]

    def _write(self, trace: TraceWriter, done: StepDone) -> None:
        shift = None
        if done.shift is not None:
            said = {"action": done.shift.action, "reason": done.shift.reason}
            shift = {**asdict(done.shift.event), **said}
        widths = group_widths(self.structure)
        trace.write(done.step, done.loss, context=done.context, widths=widths, shift=shift)

    def _save(self, trace: TraceWriter, tracker: TopologyTracker, result: RunResult) -> None:
        """Write the whole state, once the trace of its steps is on the disk."""
        trace.sync()
        state: dict[str, Any] = {
            "structure": self.structure.state_dict(),
            "context": None,
            "manager": None,
            "protect": None,
            **self.learner.state_dict(),
        }
        times = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        since = {"losses": list(self._losses), "penalties": list(self._penalties)}
        extra = {**times, **since, "result": asdict(result)}
        self._run.save(state, tracker, extra)


def _updated(result: RunResult, run: StreamRun, done: Evaluated) -> RunResult:
    """Return the result with the accuracies of an evaluation, and the network as it is now."""
    return replace(
        result,
        accuracy=[*result.accuracy[: done.index], list(done.row)],
        parameters=run.structure.parameters,
        units=group_widths(run.structure),
        flops=flops_per_sample(run.structure),
        seconds=run.seconds,
        cpu_seconds=run.cpu_seconds,
        context_size=getattr(getattr(run.learner, "context", None), "size", 0),
        memory_size=_memory_size(run),
        status="finished" if len(done.row) == len(result.tasks) else "unfinished",
    )


def _memory_size(run: StreamRun) -> int:
    """Return the numbers of a checkpoint in addition to parameters, context and optimizer."""
    apart = ("model", "context", "optimizer", "structure", "manager")
    parts = {name: part for name, part in run.learner.state_dict().items() if name not in apart}
    return numbers_in([parts, [*run.structure.model.buffers()]])


def _header(stream: TaskFreeStream) -> dict[str, Any]:
    shifts = () if stream.steps is None else stream.shifts()
    return {
        "stream": stream.name,
        "steps": stream.steps,
        "tasks": [task.name for task in stream.tasks],
        "true_shifts": [[shift.first, shift.last, shift.task] for shift in shifts],
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _first(inputs: Tensor, most: int) -> Tensor:
    return inputs[:most]
