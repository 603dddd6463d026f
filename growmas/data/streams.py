"""Streams: sources cut into tasks that come one after another.

A scenario defines what is known about a test sample (van de Ven & Tolias, 2019):

- ``task``: its task; every task has a head of its own and labels local to it.
- ``domain``: not its task, which need not be inferred; one head, and labels local to the task.
- ``class``: not its task; the class among all classes is to be predicted, by one head.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import torch

from growmas.data.changes import Permutation, Resizing, Rotation
from growmas.data.classes import class_groups
from growmas.data.names import Scenario, did_you_mean
from growmas.data.sampling import PLAIN, Limit, Sampling
from growmas.data.sources import Dataset
from growmas.data.splits import Change, Split
from growmas.data.tasks import Stream, Task
from growmas.errors import DataError


def split_stream(
    source: Dataset,
    *,
    tasks: int | Sequence[Sequence[int | str]],
    scenario: Scenario,
    generator: torch.Generator,
    shuffle_classes: bool = False,
    sizes: Sequence[int] | None = None,
    first: int | None = None,
    class_order: Sequence[int | str] | None = None,
    limit: Limit = None,
    sampling: Sampling = PLAIN,
) -> Stream:
    """Divide the C classes of a source into tasks.

    Args:
        source: what to cut.
        tasks: their number, a divisor of C; or the classes of each task, by name or label.
        scenario: see the module.
        generator: on the CPU; drawn from only to shuffle the classes and by `sampling`.
        shuffle_classes: assign the classes in random order instead of by label.
        sizes: the number of classes of each task, instead of ``tasks``.
        first: the number of classes of the first task; the others share the rest equally.
        class_order: all classes, or those to use, in the order in which tasks take them.
        limit: keep the first ``limit`` training samples of each class, for quick trials; also
            a mapping of class name to number.
        sampling: noise, imbalance and validation of training data.

    Raises:
        DataError: if the classes cannot be divided so, a class is unknown or in two tasks,
            ``scenario`` is unknown, ``limit`` is not positive, or a task would have no samples.
    """
    _check(source, 1 if not isinstance(tasks, int) else tasks, scenario, limit)
    groups = class_groups(
        source.name,
        source.classes,
        tasks,
        generator=generator,
        shuffle=shuffle_classes,
        sizes=sizes,
        first=first,
        order=class_order,
    )
    counts = {len(group) for group in groups}
    if scenario == "domain" and len(counts) > 1:
        raise DataError(
            f"tasks of {[len(group) for group in groups]} classes: scenario 'domain' has one head "
            "and needs equally many; use 'task' or 'class'",
            key=("scenario",),
        )
    total = len(source.classes)
    train, validation, test = _parts(source, limit, sampling, generator)
    made = []
    for index, classes in enumerate(groups):
        targets = range(total) if scenario == "class" else classes
        task = Task(
            name="/".join(source.classes[label] for label in classes),
            index=index,
            train=_only(train, classes, targets),
            test=_only(test, classes, targets),
            classes=tuple(classes),
            head=index if scenario == "task" else 0,
            validation=_only(validation, classes, targets) if validation else None,
        )
        made.append(_filled(task))
    heads = {
        "task": tuple(len(group) for group in groups),
        "domain": (len(groups[0]),),
        "class": (total,),
    }
    return _stream(source, "split", scenario, made, heads[scenario])


def permuted_stream(
    source: Dataset,
    *,
    tasks: int,
    scenario: Scenario,
    generator: torch.Generator,
    first_identity: bool = True,
    limit: Limit = None,
    sampling: Sampling = PLAIN,
) -> Stream:
    """Make tasks of all classes, each with the pixels in another fixed order.

    All tasks share the stored inputs of the source; batches are permuted when they are read.

    Args:
        source: what to permute: images, or vectors of features.
        tasks: their number.
        scenario: ``"task"`` or ``"domain"``.
        generator: on the CPU; one permutation of height × width is drawn a task and used for
            all channels, training and test alike.
        first_identity: leave the pixels of the first task where they are.
        limit: keep the first ``limit`` training samples of each class, for quick trials.
        sampling: noise, imbalance and validation of training data.

    Raises:
        DataError: if ``tasks`` or ``limit`` is not positive, ``scenario`` is ``"class"`` or
            unknown, or there would be no samples.
    """
    _check(source, tasks, scenario, limit)
    pixels = source.train_inputs[0].numel()
    if source.train_inputs.ndim > 2:
        pixels = source.train_inputs[0, 0].numel()
    changes: list[tuple[str, Change | None]] = []
    for index in range(tasks):
        plain = first_identity and not index
        order = None if plain else torch.randperm(pixels, generator=generator)
        changes.append((f"permutation {index + 1}", None if order is None else Permutation(order)))
    parts = _parts(source, limit, sampling, generator)
    return _changed_stream(source, "permuted", scenario, changes, [parts] * tasks)


def rotated_stream(
    source: Dataset,
    *,
    tasks: int,
    scenario: Scenario,
    generator: torch.Generator,
    degrees: float = 90.0,
    limit: Limit = None,
    sampling: Sampling = PLAIN,
) -> Stream:
    """Make tasks of all classes, each with the images rotated by another angle.

    Args:
        source: images.
        tasks: their number; the first is not rotated, the last by `degrees`.
        scenario: ``"task"`` or ``"domain"``.
        generator: on the CPU, for `sampling`.
        degrees: of the last task.
        limit: see `permuted_stream`.
        sampling: noise, imbalance and validation of training data.

    Raises:
        DataError: the source has no images, or a number is out of range.
    """
    _check(source, tasks, scenario, limit)
    if source.train_inputs.ndim != 4:
        raise DataError(
            f"a rotated stream needs images, but one input of {source.name!r} has shape "
            f"{tuple(source.train_inputs.shape[1:])}",
            key=("source",),
        )
    angles = [degrees * index / max(1, tasks - 1) for index in range(tasks)]
    changes: list[tuple[str, Change | None]] = [
        (f"{angle:g}°", Rotation(angle) if angle else None) for angle in angles
    ]
    parts = _parts(source, limit, sampling, generator)
    return _changed_stream(source, "rotated", scenario, changes, [parts] * tasks)


def ordered_stream(
    source: Dataset,
    *,
    tasks: int,
    scenario: Scenario,
    generator: torch.Generator,
    limit: Limit = None,
    sampling: Sampling = PLAIN,
) -> Stream:
    """Cut the samples of a source, in their order, into tasks of all classes: periods of time.

    Args:
        source: with samples in order of time; training and test samples are cut alike.
        tasks: their number.
        scenario: ``"task"`` or ``"domain"``.
        generator: on the CPU, for `sampling`.
        limit: see `permuted_stream`.
        sampling: noise, imbalance and validation of training data.

    Raises:
        DataError: ``tasks`` or ``limit`` is not positive, ``scenario`` is ``"class"`` or unknown,
            or a task would have no samples.
    """
    _check(source, tasks, scenario, limit)
    parts = _parts(source, limit, sampling, generator)
    pieces = [_periods(part, tasks) if part else [None] * tasks for part in parts]
    changes: list[tuple[str, Change | None]] = [
        (f"period {index + 1}", None) for index in range(tasks)
    ]
    return _changed_stream(source, "ordered", scenario, changes, list(zip(*pieces, strict=True)))


def _periods(split: Split, tasks: int) -> list[Split]:
    rows = torch.arange(len(split))
    return [split.subset(part) for part in torch.tensor_split(rows, tasks)]


def repeated_stream(stream: Stream, visits: int) -> Stream:
    """Return a stream whose tasks come again, in the same order; each visit is a task of its own.

    Args:
        stream: with the tasks of one visit; in scenario "task" a task keeps its head.
        visits: how often each task comes, at least 1.
    """
    count = len(stream.tasks)
    made = [
        replace(
            task,
            index=visit * count + task.index,
            name=task.name if not visit else f"{task.name}, visit {visit + 1}",
        )
        for visit in range(visits)
        for task in stream.tasks
    ]
    return replace(stream, tasks=tuple(made))


def sources_stream(
    sources: Sequence[Dataset],
    *,
    scenario: Scenario,
    generator: torch.Generator | None = None,
    limit: Limit = None,
    sampling: Sampling = PLAIN,
) -> Stream:
    """Make one task of each source, with all of its classes.

    Images are resized (bilinearly) to the largest height and width among the sources.

    Args:
        sources: at least one, with equally many channels.
        scenario: ``"domain"`` needs equally many classes in all sources; in ``"class"`` all
            classes of all sources are distinguished.
        generator: on the CPU, for `sampling`.
        limit: keep the first ``limit`` training samples of each class, for quick trials.
        sampling: noise, imbalance and validation of training data.

    Raises:
        DataError: the sources do not fit together, or two have the same name.
    """
    for source in sources:
        _check(source, 1, scenario, limit)
    _check_together(sources, scenario)
    generator = generator or torch.Generator()
    shapes = [tuple(source.train_inputs.shape[1:]) for source in sources]
    counts = [len(source.classes) for source in sources]
    images = all(len(shape) == 3 for shape in shapes)
    size = (max(s[1] for s in shapes), max(s[2] for s in shapes)) if images else None
    made = []
    for index, source in enumerate(sources):
        start = sum(counts[:index])
        offset = start if scenario == "class" else 0
        train, validation, test = (
            _sized(part, size, offset) if part else None
            for part in _parts(source, limit, sampling, generator)
        )
        if train is None or test is None:
            continue
        task = Task(
            name=source.name,
            index=index,
            train=train,
            test=test,
            classes=tuple(range(start, start + counts[index])),
            head=index if scenario == "task" else 0,
            validation=validation,
        )
        made.append(_filled(task))
    heads = {"task": tuple(counts), "domain": (counts[0],), "class": (sum(counts),)}
    return Stream(
        name=" → ".join(source.name for source in sources),
        scenario=scenario,
        tasks=tuple(made),
        head_sizes=heads[scenario],
        input_shape=shapes[0] if size is None else (shapes[0][0], *size),
        classes=tuple(name for source in sources for name in source.classes),
    )


def _check_together(sources: Sequence[Dataset], scenario: Scenario) -> None:
    """Refuse sources that do not make one stream."""
    named = ", ".join(repr(source.name) for source in sources)
    if not sources or len({source.name for source in sources}) < len(sources):
        raise DataError(f"a stream over sources takes each source once, got {named or 'none'}")
    shapes = [tuple(source.train_inputs.shape[1:]) for source in sources]
    counts = [len(source.classes) for source in sources]
    images = all(len(shape) == 3 for shape in shapes)
    if not images and len({*shapes}) > 1:
        raise DataError(f"{named} differ in the shape of their inputs: {shapes}", key=("sources",))
    if images and len({shape[0] for shape in shapes}) > 1:
        raise DataError(
            f"{named} differ in channels: {[shape[0] for shape in shapes]}; set channels of each",
            key=("sources",),
        )
    if scenario == "domain" and len(set(counts)) > 1:
        raise DataError(
            f"{named} have {counts} classes: scenario 'domain' has one head and needs equally "
            "many; use 'task' or 'class'"
        )


def _sized(split: Split, size: tuple[int, int] | None, offset: int) -> Split:
    split = split.relabelled(split.labels + offset)
    if size is None or split.stored.shape[2:] == size:
        return split
    return split.changed(Resizing(*size))


def _changed(split: Split, change: Change | None) -> Split:
    return split.changed(change) if change else split.relabelled(split.labels.clone())


def _changed_stream(
    source: Dataset,
    kind: str,
    scenario: Scenario,
    changes: Sequence[tuple[str, Change | None]],
    parts: Sequence[tuple[Split | None, Split | None, Split | None]],
) -> Stream:
    """Make a stream of tasks with all classes, each with a change of its inputs.

    Args:
        source: of the samples.
        kind: of the stream.
        scenario: "task" or "domain".
        changes: name and change of each task.
        parts: training, validation and test samples of each task.
    """
    if scenario == "class":
        raise DataError(
            f"a {kind} stream cannot have scenario 'class': all its tasks share the same classes; "
            "use 'task' or 'domain'",
            key=("scenario",),
        )
    total = len(source.classes)
    made = []
    for index, (name, change) in enumerate(changes):
        train, validation, test = (
            _changed(part, change) if part is not None else None for part in parts[index]
        )
        if train is None or test is None:
            continue
        task = Task(
            name=name,
            index=index,
            train=train,
            test=test,
            classes=tuple(range(total)),
            head=index if scenario == "task" else 0,
            validation=validation,
        )
        made.append(_filled(task))
    heads = (total,) * (len(changes) if scenario == "task" else 1)
    return _stream(source, kind, scenario, made, heads)


def _check(source: Dataset, tasks: int, scenario: str, limit: Limit) -> None:
    scenarios = get_args(Scenario)
    if scenario not in scenarios:
        raise DataError(f"unknown scenario {scenario!r}; {did_you_mean(scenario, scenarios)}")
    if tasks < 1:
        raise DataError(f"a stream over {source.name!r} needs at least 1 task, got {tasks}")
    if isinstance(limit, int) and limit < 1:
        raise DataError(
            f"limit must be at least 1 training sample of each class, got {limit}; "
            "None keeps them all"
        )


def _parts(
    source: Dataset, limit: Limit, sampling: Sampling, generator: torch.Generator
) -> tuple[Split, Split | None, Split]:
    """Return training, validation and test samples."""
    train = Split(source.train_inputs, source.train_labels, scaling=source.scaling, shared=True)
    train, validation = sampling.drawn(train, source.classes, limit, generator)
    test = Split(source.test_inputs, source.test_labels, scaling=source.scaling, shared=True)
    return train, validation, test


def _only(split: Split, classes: Sequence[int], targets: Sequence[int]) -> Split:
    """Return the samples of ``classes``, labelled by the position of their class in ``targets``."""
    rows = torch.isin(split.labels, torch.tensor(classes)).nonzero().squeeze(1)
    matches = split.labels[rows].unsqueeze(1) == torch.tensor(targets)
    return split.subset(rows, matches.long().argmax(1))


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
    return Stream(
        name=f"{source.name} {kind}",
        scenario=scenario,
        tasks=tuple(tasks),
        head_sizes=head_sizes,
        input_shape=tuple(source.train_inputs.shape[1:]),
        classes=source.classes,
    )
