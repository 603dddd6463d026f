"""Task-free streams: batches without task boundaries.

Every batch is a function of the stream's seed and its step: any step can be computed at any time,
a stream may be endless, and one that was stopped continues exactly where it was.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from growmas.data.batching import in_processes
from growmas.data.changes import Rotation, rotated
from growmas.data.names import Scenario
from growmas.data.sampling import PLAIN, Limit, Sampling
from growmas.data.sources import Dataset
from growmas.data.splits import Split
from growmas.data.streams import permuted_stream
from growmas.data.tasks import Stream, Task, digest_of
from growmas.data.transforms import SeededChain, Transform, thinned
from growmas.errors import DataError


@dataclass(frozen=True, eq=False)
class StreamBatch:
    """Samples of one step, N of them.

    Attributes:
        step: From 0.
        inputs: [N, ...].
        labels: int64 [N].
        task: Index of the task that most samples are of; for scoring only.
        plain: [N, ...], the inputs without random changes; None where `inputs` have none.
    """

    step: int
    inputs: Tensor
    labels: Tensor
    task: int
    plain: Tensor | None = None


@dataclass(frozen=True)
class TrueShift:
    """Boundary between two tasks; for scoring only.

    Attributes:
        first: First step with a sample of the new task.
        last: First step with samples of the new task alone; `first` where the boundary is sharp.
        task: Index of the new task.
    """

    first: int
    last: int
    task: int


@dataclass(frozen=True, eq=False)
class TaskFreeStream:
    """Batches of one task after another, once or repeatedly, without task boundaries.

    While a task lasts, its training samples come in passes of random order; the samples at the
    end of a pass that do not fill a batch are left out. In a blurred boundary of B steps,
    centred on the end of a task, every sample is of the next task with a probability that rises
    in equal steps from 0 to 1.

    Attributes:
        name: Source and kind.
        scenario: "domain" or "class"; the task is never known.
        tasks: T tasks, each with test samples.
        input_shape: Of one sample, (channels, height, width) of images.
        outputs: Number of outputs of the model.
        batch_size: N; a task with fewer samples gives all of them at each step.
        steps_per_task: Steps that a task lasts.
        steps: Steps in all; None for an endless stream, in which the tasks repeat in order.
        blur: Steps that a boundary takes; 0 for a sharp one.
        turn: Degrees per step by which inputs are rotated, for a drift without boundaries.
        seed: Of all randomness.
        identity: The digest of the tasks, where their inputs were computed from those of others.
    """

    name: str
    scenario: Scenario
    tasks: tuple[Task, ...]
    input_shape: tuple[int, ...]
    outputs: int
    batch_size: int
    steps_per_task: int
    steps: int | None
    blur: int = 0
    turn: float = 0.0
    seed: int = 0
    identity: str = ""

    @cached_property
    def digest(self) -> str:
        """Hash of all samples, labels and their order: the same for the same stream everywhere."""
        numbers = (
            self.batch_size,
            self.steps_per_task,
            self.steps,
            self.blur,
            self.turn,
            self.seed,
        )
        given = f"{self.scenario} {numbers} {self.identity}".strip()
        return digest_of(given, self.head_sizes, () if self.identity else self.tasks)

    @property
    def head_sizes(self) -> tuple[int, ...]:
        """Number of outputs of the one head that a model needs."""
        return (self.outputs,)

    def batches(
        self,
        start: int = 0,
        *,
        transforms: Sequence[Transform] = (),
        input_dropout: float = 0.0,
        workers: int = 0,
    ) -> Iterator[StreamBatch]:
        """Return all batches from step `start` on.

        Args:
            start: The first step.
            transforms: Random changes of inputs, before their normalisation.
            input_dropout: A share of inputs to set to zero.
            workers: Processes that prepare batches; batches are the same for any number.
        """
        steps = itertools.count(start) if self.steps is None else range(start, self.steps)
        prepared = _Steps(self, tuple(transforms), input_dropout)
        loaded = in_processes(prepared, steps, workers) if workers else map(prepared.get, steps)
        return (StreamBatch(*values) for values in loaded)

    def __iter__(self) -> Iterator[StreamBatch]:
        """Yield all batches."""
        return self.batches()

    def batch(
        self, step: int, *, transforms: Sequence[Transform] = (), input_dropout: float = 0.0
    ) -> StreamBatch:
        """Return the batch of one step.

        Args:
            step: Its number, from 0.
            transforms: Random changes of inputs, before their normalisation; the stream's seed and
                the step are all that they depend on.
            input_dropout: A share of inputs to set to zero, in the same way.

        Raises:
            DataError: The step is outside of the stream.
        """
        plain = self._batch(step)
        if not transforms and not input_dropout:
            return plain
        generator = _generator(self.seed, step, _CHANGING)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        change = SeededChain(tuple(transforms), seed) if transforms else None
        changed = plain if change is None else self._batch(step, change)
        inputs = changed.inputs
        if input_dropout:
            inputs = thinned(inputs, input_dropout, generator)
        return replace(plain, inputs=inputs, plain=plain.inputs)

    def _batch(self, step: int, change: SeededChain | None = None) -> StreamBatch:
        """Return the batch of one step, with a change that comes before all others."""
        if step < 0 or (self.steps is not None and step >= self.steps):
            raise DataError(
                f"step {step} does not exist: {self.name!r} has {self.steps} steps, from 0"
            )
        segment, place = divmod(step, self.steps_per_task)
        inputs, labels = self._pass(segment, place, change)
        near = round(step / self.steps_per_task)  # the boundary before segment `near`
        new = (step - near * self.steps_per_task + self.blur / 2 + 0.5) / max(self.blur, 1)
        exists = near > 0 and (self.steps is None or near * self.steps_per_task < self.steps)
        if self.blur and exists and 0 < new < 1:
            other = near if segment < near else near - 1
            share = new if segment < near else 1 - new
            inputs, labels = self._mixed(step, inputs, labels, self._task(other), share, change)
        if self.turn:
            inputs = rotated(inputs, self.turn * step)
        return StreamBatch(step, inputs, labels, self._task(segment).index)

    def shifts(self, until: int | None = None) -> tuple[TrueShift, ...]:
        """Return the true shifts before step `until`, by default all; for scoring only.

        Raises:
            DataError: The stream is endless, and `until` was not given.
        """
        last = self.steps if until is None else until
        if last is None:
            raise DataError(f"{self.name!r} has no end: call shifts(until=step)")
        if len(self.tasks) == 1:
            return ()
        found = []
        for boundary in range(self.steps_per_task, last, self.steps_per_task):
            first = boundary - self.blur // 2
            task = self._task(boundary // self.steps_per_task).index
            found.append(TrueShift(first, first + self.blur, task))
        return tuple(found)

    def _task(self, segment: int) -> Task:
        return self.tasks[segment % len(self.tasks)]

    def _pass(self, segment: int, place: int, change: SeededChain | None) -> tuple[Tensor, Tensor]:
        train = self._task(segment).train
        whole = max(1, len(train) // self.batch_size)
        number, part = divmod(place, whole)
        order = _order(self.seed, segment, number, len(train))
        rows = order[part * self.batch_size : (part + 1) * self.batch_size]
        return _read(train, rows, change), train.labels[rows]

    def _mixed(
        self,
        step: int,
        inputs: Tensor,
        labels: Tensor,
        other: Task,
        share: float,
        change: SeededChain | None,
    ) -> tuple[Tensor, Tensor]:
        """Replace a share of the samples, in expectation, by ones of another task."""
        generator = _generator(self.seed, step, _MIXING)
        theirs = torch.rand(len(labels), generator=generator) < share
        rows = torch.randint(len(other.train), (len(labels),), generator=generator)
        mask = theirs.reshape(-1, *[1] * (inputs.dim() - 1))
        inputs = torch.where(mask, _read(other.train, rows, change), inputs)
        return inputs, torch.where(theirs, other.train.labels[rows], labels)


def _read(split: Split, rows: Tensor, change: SeededChain | None) -> Tensor:
    return split.take(rows) if change is None else split.augmented(rows, change)


@dataclass(frozen=True, eq=False)
class _Steps:
    """The batches of a stream by step, as tuples of the values of a `StreamBatch`.

    Attributes:
        stream: The stream.
        transforms: Random changes of inputs.
        input_dropout: A share of inputs to set to zero.
    """

    stream: TaskFreeStream
    transforms: tuple[Transform, ...]
    input_dropout: float

    def get(self, step: int) -> tuple[int, Tensor, Tensor, int, Tensor | None]:
        batch = self.stream.batch(
            step, transforms=self.transforms, input_dropout=self.input_dropout
        )
        return batch.step, batch.inputs, batch.labels, batch.task, batch.plain

    __getitem__ = get


def task_free_stream(
    stream: Stream,
    *,
    batch_size: int = 32,
    steps_per_task: int = 100,
    visits: int | None = 1,
    blur: int = 0,
    seed: int = 0,
) -> TaskFreeStream:
    """Make batches without task boundaries from the tasks of a stream.

    Args:
        stream: Of scenario "domain" or "class"; a single task gives a stream without a shift.
        batch_size: Samples of a step.
        steps_per_task: Steps that a task lasts.
        visits: Number of visits to every task, in turn; None for an endless stream.
        blur: Steps that a boundary takes, up to `steps_per_task`; 0 for sharp ones.
        seed: Of all randomness.

    Raises:
        DataError: A number is out of range, or the stream is of scenario "task".
    """
    if stream.scenario == "task":
        raise DataError(
            f"{stream.name!r} is of scenario 'task', where the task is known: use 'domain' or "
            "'class' for a stream without tasks"
        )
    _check_numbers(batch_size=batch_size, steps_per_task=steps_per_task, visits=visits)
    if not 0 <= blur <= steps_per_task:
        raise DataError(f"blur must lie in 0 … steps_per_task={steps_per_task}, got {blur}")
    return TaskFreeStream(
        name=f"{stream.name}, task-free",
        scenario=stream.scenario,
        tasks=stream.tasks,
        input_shape=stream.input_shape,
        outputs=stream.head_sizes[0],
        batch_size=batch_size,
        steps_per_task=steps_per_task,
        steps=None if visits is None else visits * len(stream.tasks) * steps_per_task,
        blur=blur if len(stream.tasks) > 1 else 0,
        seed=seed,
        identity=stream.identity,
    )


def drifting_stream(
    source: Dataset,
    *,
    steps: int,
    degrees: float = 90.0,
    views: int = 3,
    batch_size: int = 32,
    seed: int = 0,
    limit: Limit = None,
    sampling: Sampling = PLAIN,
) -> TaskFreeStream:
    """Make a stream of gradually rotating images of all classes: a drift without shifts.

    Its tasks are test samples rotated by several angles, from 0 to `degrees`; they share the
    training samples.

    Args:
        source: With the images.
        steps: Number of steps.
        degrees: Rotation at the last step.
        views: Number of angles to test at.
        batch_size: Samples of a step.
        seed: Of all randomness.
        limit: Keep the first `limit` training samples of each class, for quick trials.
        sampling: Noise and imbalance of training data.

    Raises:
        DataError: A number is out of range, or the source has no images.
    """
    _check_numbers(steps=steps, views=views, batch_size=batch_size)
    plain = permuted_stream(
        source,
        tasks=1,
        scenario="domain",
        generator=torch.Generator().manual_seed(seed),
        limit=limit,
        sampling=sampling,
    )
    if len(plain.input_shape) != 3:
        raise DataError(
            f"a turning stream needs images, but one input of {source.name!r} has shape "
            f"{plain.input_shape}",
            key=("source",),
        )
    task = plain.tasks[0]
    angles = [degrees * index / max(1, views - 1) for index in range(views)]
    tasks = [
        replace(
            task,
            name=f"{angle:.0f}°",
            index=index,
            test=task.test.changed(Rotation(angle)),
        )
        for index, angle in enumerate(angles)
    ]
    return TaskFreeStream(
        name=f"{source.name} drifting, task-free",
        scenario="domain",
        tasks=tuple(tasks),
        input_shape=plain.input_shape,
        outputs=plain.head_sizes[0],
        batch_size=batch_size,
        steps_per_task=steps,
        steps=steps,
        turn=degrees / max(1, steps - 1),
        seed=seed,
    )


_PASS, _MIXING, _CHANGING = 0, 1, 2


@lru_cache(maxsize=8)
def _order(seed: int, segment: int, number: int, samples: int) -> Tensor:
    return torch.randperm(samples, generator=_generator(seed, segment, number, _PASS))


def _generator(*words: int) -> torch.Generator:
    seed = np.random.SeedSequence(list(words)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed[0]) >> 1)


def _check_numbers(**numbers: int | None) -> None:
    wrong = [f"{name}={number}" for name, number in numbers.items() if (number or 1) < 1]
    wrong += [f"{name}=0" for name, number in numbers.items() if number == 0]
    if wrong:
        raise DataError(f"{', '.join(sorted(set(wrong)))}: expected whole numbers of at least 1")
