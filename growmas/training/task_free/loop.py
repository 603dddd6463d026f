"""A whole task-free stream learnt into a run directory."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from growmas.checkpoint import read_state, write_state
from growmas.data import Task
from growmas.data.batching import batches
from growmas.data.task_free import TaskFreeStream
from growmas.errors import RunError
from growmas.history.tracker import TopologyTracker
from growmas.structure import Structure
from growmas.training.task_free.fixed import TaskFreeMAS
from growmas.training.task_free.learner import TaskFreeLearner
from growmas.training.task_free.trace import NAME, Trace

EVALUATION_BATCH = 1024
CHECKPOINT = "checkpoint"
EVERY = 500
"""Steps from one checkpoint to the next; there is also one after every shift."""


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
        learner: That learns.
        seconds: Wall time spent learning.
        cpu_seconds: CPU time meanwhile.
    """

    def __init__(
        self,
        learner: TaskFreeLearner | TaskFreeMAS,
        structure: Structure,
        stream: TaskFreeStream,
        *,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        """Put the parts together.

        Args:
            learner: Fresh.
            structure: The units of its network.
            stream: With an end.
            folder: The run directory.
            device: Where the network is.

        Raises:
            RunError: The stream has no end.
        """
        if stream.steps is None:
            raise RunError(f"{stream.name!r} has no end: a run needs one, give visits")
        self.learner = learner
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._structure = structure
        self._stream = stream
        self._steps = stream.steps
        self._folder = folder
        self._device = device
        self._losses: list[float] = []

    def start(self, *, resume: bool = False) -> TopologyTracker:
        """Begin the history, or take up that of a run that was stopped.

        Raises:
            RunError: There is no checkpoint to go on from.
        """
        path = self._folder / "history.db"
        if not resume:
            if isinstance(self.learner, TaskFreeMAS):
                self._structure.begin_task("stream")
            return TopologyTracker(self._structure, path)
        if not (self._folder / CHECKPOINT).exists() or not (self._folder / NAME).exists():
            raise RunError(
                f"{self._folder} has no checkpoint of a task-free run to go on from: start it anew "
                "with --overwrite"
            )
        state = read_state(self._folder / CHECKPOINT)
        if isinstance(self.learner, TaskFreeMAS):
            self._structure.load_state_dict(state["structure"])
        self.learner.load_state_dict(state)
        self.seconds, self.cpu_seconds = state["run"]["seconds"], state["run"]["cpu_seconds"]
        self._losses = list(state["run"]["losses"])
        return TopologyTracker.resume(self._structure, path, rewind=state["run"].get("event", True))

    def go(self, tracker: TopologyTracker) -> Iterator[Evaluated]:
        """Learn the stream from where the learner is; yields at every evaluation."""
        if isinstance(self.learner, TaskFreeLearner):
            self.learner.tracker = tracker
        moments = {step: index for index, step in enumerate(self._evaluations())}
        with Trace(self._folder, self._stream, start=self.learner.step) as trace:
            for batch in self._stream.batches(self.learner.step):
                inputs, labels = batch.inputs.to(self._device), batch.labels.to(self._device)
                wall, cpu = time.perf_counter(), time.process_time()
                done = self.learner.learn(inputs, labels)
                self.seconds += time.perf_counter() - wall
                self.cpu_seconds += time.process_time() - cpu
                self._losses.append(done.loss)
                groups = self._structure.groups.items()
                trace.write(done, {name: group.width for name, group in groups})
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
        """Share of the task's test samples answered right; nobody says which task it is."""
        right = 0
        for inputs, labels in batches(task.test, EVALUATION_BATCH):
            logits = self.learner.predict(inputs.to(self._device))
            right += int((logits.argmax(1).cpu() == labels).sum())
        return right / len(task.test)

    def _evaluations(self) -> list[int]:
        """Numbers of steps after which tasks are tested, one for each task."""
        tasks = len(self._stream.tasks)
        drifts = self._stream.steps_per_task == self._steps
        first = self._steps // tasks if drifts else self._stream.steps_per_task
        return [*(first * number for number in range(1, tasks)), self._steps]

    def _save(self, event: int) -> None:
        """Write all there is, and after which event of the history it was."""
        state: dict[str, Any] = {
            "format": 1,
            "structure": self._structure.state_dict(),
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
        write_state(self._folder / CHECKPOINT, state)
