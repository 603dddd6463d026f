"""Task-free runs: a whole task-free stream learnt into a run directory."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from growmas.checkpoint import read_state, write_state
from growmas.config import Experiment
from growmas.data import Task, TaskFreeStream, batches
from growmas.errors import RunError
from growmas.experiment.learners import build_task_free, head_count
from growmas.experiment.models import build_structure
from growmas.experiment.observer import Observer, TaskDone
from growmas.experiment.optimizers import build_optimizer
from growmas.experiment.randomness import derived_seed
from growmas.experiment.results import accuracy_metrics, first_result, group_widths
from growmas.experiment.streams import build_task_free_stream
from growmas.history.tracker import TopologyTracker
from growmas.runs import RunDirectory, RunResult, TraceWriter
from growmas.structure import Structure
from growmas.training.learner import EVALUATION_BATCH, EpochDone
from growmas.training.task_free import StepDone, TaskFreeLearner, TaskFreeMAS

EVERY = 500
"""Steps from one checkpoint to the next; there is also one after every shift."""


def run_task_free(
    experiment: Experiment,
    folder: RunDirectory,
    *,
    overwrite: bool,
    resume: bool,
    observer: Observer | None,
) -> RunResult:
    """Learn a task-free stream; see `run_experiment`."""
    stream = build_task_free_stream(experiment)
    structure = build_structure(experiment, stream, heads=head_count(experiment))
    optimizer = build_optimizer(experiment.training, structure.model.parameters())
    seed = derived_seed(experiment.seed, "context")
    learner = build_task_free(experiment, structure, optimizer, seed=seed)
    run = StreamRun(learner, structure, stream, folder=folder, device=experiment.device)
    result = first_result(experiment, stream, structure)
    if resume:
        result = folder.read_result()
    else:
        folder.begin(experiment, result, overwrite=overwrite)
    with run.start(resume=resume) as tracker:
        for done in run.go(tracker):
            result = _updated(result, run, done)
            tracker.snapshot(metrics=accuracy_metrics(stream, done.row))
            folder.write_result(result)
            if observer:
                name = stream.tasks[done.index].name
                observer.epoch_done(EpochDone(done.index, name, 1, done.loss, 0.0))
                observer.task_done(TaskDone(done.index, result))
    return result


@dataclass(frozen=True)
class Evaluated:
    """The tasks so far were tested.

    Attributes:
        index: Of the task that has just gone by for the first time, or of the last one, at the
            end of the stream.
        row: Accuracy on each task up to it.
        loss: Mean loss since the last evaluation.
    """

    index: int
    row: tuple[float, ...]
    loss: float


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
        learner: TaskFreeLearner | TaskFreeMAS,
        structure: Structure,
        stream: TaskFreeStream,
        *,
        folder: RunDirectory,
        device: str = "cpu",
    ) -> None:
        """Put the parts together.

        Args:
            learner: Fresh.
            structure: The units of its network.
            stream: With an end.
            folder: The run directory.
            device: Of the network.

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
        self._folder = folder
        self._device = device
        self._losses: list[float] = []

    def start(self, *, resume: bool = False) -> TopologyTracker:
        """Begin the history, or continue that of a stopped run.

        Raises:
            RunError: There is no checkpoint to continue from.
        """
        if not resume:
            if isinstance(self.learner, TaskFreeMAS):
                self.structure.begin_task("stream")
            return TopologyTracker(self.structure, self._folder.history)
        if not self._folder.checkpoint.exists() or not self._folder.trace.exists():
            raise RunError(
                f"{self._folder.path} has no checkpoint of a task-free run to continue from: start "
                "it anew with --overwrite"
            )
        state = read_state(self._folder.checkpoint)
        if isinstance(self.learner, TaskFreeMAS):
            self.structure.load_state_dict(state["structure"])
        self.learner.load_state_dict(state)
        run = state["run"]
        self.seconds, self.cpu_seconds = run["seconds"], run["cpu_seconds"]
        self._losses = list(run["losses"])
        event = run.get("event", True)
        return TopologyTracker.resume(self.structure, self._folder.history, rewind=event)

    def go(self, tracker: TopologyTracker) -> Iterator[Evaluated]:
        """Learn the stream from where the learner is; yields at every evaluation."""
        if isinstance(self.learner, TaskFreeLearner):
            self.learner.tracker = tracker
        moments = {step: index for index, step in enumerate(self._evaluations())}
        header, start = _header(self._stream), self.learner.step
        with TraceWriter(self._folder.path, header, start=start) as trace:
            for batch in self._stream.batches(start):
                inputs, labels = batch.inputs.to(self._device), batch.labels.to(self._device)
                wall, cpu = time.perf_counter(), time.process_time()
                done = self.learner.learn(inputs, labels)
                self.seconds += time.perf_counter() - wall
                self.cpu_seconds += time.process_time() - cpu
                self._losses.append(done.loss)
                self._write(trace, done)
                index = moments.get(batch.step + 1)
                if index is not None:
                    row = tuple(self.accuracy(task) for task in self._stream.tasks[: index + 1])
                    evaluated = Evaluated(index, row, sum(self._losses) / len(self._losses))
                    self._losses = []
                    yield evaluated
                if done.shift is not None or index is not None or self.learner.step % EVERY == 0:
                    trace.flush()
                    self._save(tracker.last_event)

    def accuracy(self, task: Task) -> float:
        """Return the share of the task's test samples answered right, the task unknown."""
        right = 0
        for inputs, labels in batches(task.test, EVALUATION_BATCH):
            logits = self.learner.predict(inputs.to(self._device))
            right += int((logits.argmax(1).cpu() == labels).sum())
        return right / len(task.test)

    def _evaluations(self) -> list[int]:
        """Return the numbers of steps after which tasks are tested, one for each task."""
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

    def _save(self, event: int) -> None:
        """Write the whole state, and the number of the last event of the history."""
        state: dict[str, Any] = {
            "format": 1,
            "structure": self.structure.state_dict(),
            "context": None,
            "manager": None,
            "protect": None,
            **self.learner.state_dict(),
            "run": {
                "seconds": self.seconds,
                "cpu_seconds": self.cpu_seconds,
                "losses": list(self._losses),
                "event": event,
            },
        }
        write_state(self._folder.checkpoint, state)


def _updated(result: RunResult, run: StreamRun, done: Evaluated) -> RunResult:
    """Return the result with the accuracies of an evaluation, and the network as it is now."""
    return replace(
        result,
        accuracy=[*result.accuracy[: done.index], list(done.row)],
        parameters=run.structure.parameters,
        units=group_widths(run.structure),
        seconds=run.seconds,
        cpu_seconds=run.cpu_seconds,
        context_size=getattr(getattr(run.learner, "context", None), "size", 0),
        status="finished" if len(done.row) == len(result.tasks) else "unfinished",
    )


def _header(stream: TaskFreeStream) -> dict[str, Any]:
    shifts = () if stream.steps is None else stream.shifts()
    return {
        "stream": stream.name,
        "steps": stream.steps,
        "tasks": [task.name for task in stream.tasks],
        "true_shifts": [[shift.first, shift.last, shift.task] for shift in shifts],
    }
