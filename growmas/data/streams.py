"""Streams: sources cut into tasks that come one after another.

A scenario defines what is known about a test sample (van de Ven & Tolias, 2019):

- ``task``: its task; every task has a head of its own and labels local to it.
- ``domain``: not its task, which need not be inferred; one head, and labels local to the task.
- ``class``: not its task; the class among all classes is to be predicted, by one head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.data.names import Scenario, did_you_mean
from growmas.data.sources import Dataset
from growmas.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """N samples: ``inputs`` float32 [N, channels, height, width] and ``labels`` int64 [N]."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Task:
    """One task of a stream.

    Attributes:
        name: ``"0/1"`` (its class names) or ``"permutation 1"``.
        index: its place in the stream, from 0.
        train: samples to learn from; labels index the outputs of the task's head.
        test: samples to test on, labelled in the same way.
        classes: the labels of its classes among those of the whole stream.
        head: which head of the model answers it.
    """

    name: str
    index: int
    train: Split
    test: Split
    classes: tuple[int, ...]
    head: int


@dataclass(frozen=True, eq=False)
class Stream:
    """Tasks in the order in which they are learnt.

    Attributes:
        name: source and kind, such as ``"mnist5k split"``.
        scenario: ``"task"``, ``"domain"`` or ``"class"``.
        tasks: at least one.
        head_sizes: the number of outputs of each head that a model needs.
        input_shape: of one sample, (channels, height, width).
        labels: for each head, the label of a test sample that each of its outputs stands for;
            left out, output i stands for label i.
    """

    name: str
    scenario: Scenario
    tasks: tuple[Task, ...]
    head_sizes: tuple[int, ...]
    input_shape: tuple[int, int, int]
    labels: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.labels:
            plain = tuple(tuple(range(size)) for size in self.head_sizes)
            object.__setattr__(self, "labels", plain)


def split_stream(
    source: Dataset,
    *,
    tasks: int,
    scenario: Scenario,
    generator: torch.Generator,
    shuffle_classes: bool = False,
    limit: int | None = None,
) -> Stream:
    """Divide the C classes of a source into tasks of equally many.

    Args:
        source: what to cut.
        tasks: their number, a divisor of C.
        scenario: see the module.
        generator: on the CPU; drawn from only to shuffle the classes.
        shuffle_classes: assign the classes in random order instead of by label.
        limit: keep the first ``limit`` training samples of each class, for quick trials.

    Raises:
        DataError: if ``tasks`` does not divide C, ``scenario`` is unknown, ``limit`` is not
            positive, or a task would have no samples.
    """
    _check(source, tasks, scenario, limit)
    total = len(source.classes)
    if total % tasks:
        fitting = ", ".join(str(count) for count in range(1, total + 1) if total % count == 0)
        raise DataError(
            f"{total} classes of {source.name!r} cannot be divided into {tasks} tasks equally: "
            f"tasks must be one of {fitting}"
        )
    size = total // tasks
    order = torch.randperm(total, generator=generator) if shuffle_classes else torch.arange(total)
    train, test = _halves(source, limit)
    made = []
    for index, classes in enumerate(order.reshape(tasks, size).tolist()):
        targets = range(total) if scenario == "class" else classes
        task = Task(
            name="/".join(source.classes[label] for label in classes),
            index=index,
            train=_only(train, classes, targets),
            test=_only(test, classes, targets),
            classes=tuple(classes),
            head=index if scenario == "task" else 0,
        )
        made.append(_filled(task))
    heads = {"task": (size,) * tasks, "domain": (size,), "class": (total,)}
    return _stream(source, "split", scenario, made, heads[scenario])


def permuted_stream(
    source: Dataset,
    *,
    tasks: int,
    scenario: Scenario,
    generator: torch.Generator,
    first_identity: bool = True,
    limit: int | None = None,
) -> Stream:
    """Make tasks of all classes, each with the pixels in another fixed order.

    Each task holds its own copy of the inputs: ``tasks`` times the memory of the source.

    Args:
        source: what to permute.
        tasks: their number.
        scenario: ``"task"`` or ``"domain"``.
        generator: on the CPU; one permutation of height × width is drawn a task and used for
            all channels, training and test alike.
        first_identity: leave the pixels of the first task where they are.
        limit: keep the first ``limit`` training samples of each class, for quick trials.

    Raises:
        DataError: if ``tasks`` or ``limit`` is not positive, ``scenario`` is ``"class"`` or
            unknown, or there would be no samples.
    """
    _check(source, tasks, scenario, limit)
    if scenario == "class":
        raise DataError(
            "a permuted stream cannot have scenario 'class': all its tasks share the same classes; "
            "use 'task' or 'domain'"
        )
    train, test = _halves(source, limit)
    total = len(source.classes)
    made = []
    for index in range(tasks):
        order = torch.arange(source.train_inputs[0, 0].numel())
        if index or not first_identity:
            order = torch.randperm(len(order), generator=generator)
        task = Task(
            name=f"permutation {index + 1}",
            index=index,
            train=_permuted(train, order),
            test=_permuted(test, order),
            classes=tuple(range(total)),
            head=index if scenario == "task" else 0,
        )
        made.append(_filled(task))
    heads = (total,) * (tasks if scenario == "task" else 1)
    return _stream(source, "permuted", scenario, made, heads)


def sources_stream(
    sources: Sequence[Dataset], *, scenario: Scenario, limit: int | None = None
) -> Stream:
    """Make one task of each source, with all of its classes.

    Images are resized (bilinearly) to the largest height and width among the sources.

    Args:
        sources: at least one, with equally many channels.
        scenario: ``"domain"`` needs equally many classes in all sources; in ``"class"`` all
            classes of all sources are distinguished.
        limit: keep the first ``limit`` training samples of each class, for quick trials.

    Raises:
        DataError: the sources do not fit together, or two have the same name.
    """
    named = ", ".join(repr(source.name) for source in sources)
    if not sources or len({source.name for source in sources}) < len(sources):
        raise DataError(f"a stream over sources takes each source once, got {named or 'none'}")
    for source in sources:
        _check(source, 1, scenario, limit)
    shapes = [source.train_inputs.shape[1:] for source in sources]
    counts = [len(source.classes) for source in sources]
    if len({channels for channels, _, _ in shapes}) > 1:
        raise DataError(f"{named} differ in channels: {[shape[0] for shape in shapes]}")
    if scenario == "domain" and len(set(counts)) > 1:
        raise DataError(
            f"{named} have {counts} classes: scenario 'domain' has one head and needs equally "
            "many; use 'task' or 'class'"
        )
    size = (max(height for _, height, _ in shapes), max(width for _, _, width in shapes))
    made = []
    for index, source in enumerate(sources):
        first = sum(counts[:index])
        offset = first if scenario == "class" else 0
        train, test = (_sized(half, size, offset) for half in _halves(source, limit))
        task = Task(
            name=source.name,
            index=index,
            train=train,
            test=test,
            classes=tuple(range(first, first + counts[index])),
            head=index if scenario == "task" else 0,
        )
        made.append(_filled(task))
    heads = {"task": tuple(counts), "domain": (counts[0],), "class": (sum(counts),)}
    return Stream(
        name=" → ".join(source.name for source in sources),
        scenario=scenario,
        tasks=tuple(made),
        head_sizes=heads[scenario],
        input_shape=(shapes[0][0], *size),
    )


def _sized(split: Split, size: tuple[int, int], offset: int) -> Split:
    inputs = split.inputs
    if inputs.shape[2:] != size:
        inputs = F.interpolate(inputs, size, mode="bilinear", align_corners=False)
    return Split(inputs, split.labels + offset)


def _check(source: Dataset, tasks: int, scenario: str, limit: int | None) -> None:
    scenarios = get_args(Scenario)
    if scenario not in scenarios:
        raise DataError(f"unknown scenario {scenario!r}; {did_you_mean(scenario, scenarios)}")
    if tasks < 1:
        raise DataError(f"a stream over {source.name!r} needs at least 1 task, got {tasks}")
    if limit is not None and limit < 1:
        raise DataError(
            f"limit must be at least 1 training sample of each class, got {limit}; "
            "None keeps them all"
        )


def _halves(source: Dataset, limit: int | None) -> tuple[Split, Split]:
    """Return training and test samples, the former cut to ``limit`` of each class."""
    train = Split(source.train_inputs, source.train_labels)
    if limit is not None:
        kept = [
            (train.labels == label).nonzero().squeeze(1)[:limit]
            for label in range(len(source.classes))
        ]
        rows = torch.cat(kept).sort().values
        train = Split(train.inputs[rows], train.labels[rows])
    return train, Split(source.test_inputs, source.test_labels)


def _only(split: Split, classes: Sequence[int], targets: Sequence[int]) -> Split:
    """Return the samples of ``classes``, labelled by the position of their class in ``targets``."""
    wanted = torch.isin(split.labels, torch.tensor(classes))
    matches = split.labels[wanted].unsqueeze(1) == torch.tensor(targets)
    return Split(split.inputs[wanted], matches.long().argmax(1))


def _permuted(split: Split, order: Tensor) -> Split:
    pixels = split.inputs.flatten(2)[:, :, order]
    return Split(pixels.reshape(split.inputs.shape), split.labels.clone())


def _filled(task: Task) -> Task:
    for part, split in (("training", task.train), ("test", task.test)):
        if not len(split):
            raise DataError(f"task {task.name!r} has no {part} samples: add some, or merge tasks")
    return task


def _stream(
    source: Dataset,
    kind: str,
    scenario: Scenario,
    tasks: Sequence[Task],
    head_sizes: tuple[int, ...],
) -> Stream:
    channels, height, width = source.train_inputs.shape[1:]
    return Stream(
        name=f"{source.name} {kind}",
        scenario=scenario,
        tasks=tuple(tasks),
        head_sizes=head_sizes,
        input_shape=(channels, height, width),
    )
