"""Streams: sources cut into tasks that come one after another.

A scenario defines what is known about a test sample (van de Ven & Tolias, 2019):

- ``task``: its task; every task has a head of its own and labels local to it.
- ``domain``: not its task, which need not be inferred; one head, and labels local to the task.
- ``class``: not its task; the class among all classes is to be predicted, by one head.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from growmas.data.changes import Permutation, Rotation
from growmas.data.classes import class_groups
from growmas.data.names import Scenario
from growmas.data.samples import check_stream, filled, samples
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
    check_stream(source, 1 if not isinstance(tasks, int) else tasks, scenario, limit)
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
    train, validation, test = samples(source, limit, sampling, generator)
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
        made.append(filled(task))
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
    check_stream(source, tasks, scenario, limit)
    pixels = source.train_inputs[0].numel()
    if source.train_inputs.ndim > 2:
        pixels = source.train_inputs[0, 0].numel()
    changes: list[tuple[str, Change | None]] = []
    for index in range(tasks):
        plain = first_identity and not index
        order = None if plain else torch.randperm(pixels, generator=generator)
        changes.append((f"permutation {index + 1}", None if order is None else Permutation(order)))
    parts = samples(source, limit, sampling, generator)
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
    check_stream(source, tasks, scenario, limit)
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
    parts = samples(source, limit, sampling, generator)
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
    check_stream(source, tasks, scenario, limit)
    parts = samples(source, limit, sampling, generator)
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
        made.append(filled(task))
    heads = (total,) * (len(changes) if scenario == "task" else 1)
    return _stream(source, kind, scenario, made, heads)


def _only(split: Split, classes: Sequence[int], targets: Sequence[int]) -> Split:
    """Return the samples of ``classes``, labelled by the position of their class in ``targets``."""
    rows = torch.isin(split.labels, torch.tensor(classes)).nonzero().squeeze(1)
    matches = split.labels[rows].unsqueeze(1) == torch.tensor(targets)
    return split.subset(rows, matches.long().argmax(1))


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
