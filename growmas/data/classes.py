"""Classes divided into tasks."""

from collections.abc import Sequence

import torch

from growmas.data.names import did_you_mean
from growmas.errors import DataError


def class_groups(
    source: str,
    classes: Sequence[str],
    tasks: int | Sequence[Sequence[int | str]],
    *,
    generator: torch.Generator,
    shuffle: bool = False,
    sizes: Sequence[int] | None = None,
    first: int | None = None,
    order: Sequence[int | str] | None = None,
) -> list[list[int]]:
    """Return the labels of the classes of each task; see `growmas.data.split_stream`.

    Args:
        source: Its name, for messages.
        classes: Names of the C classes.
        tasks: Their number, or the classes of each, by name or label.
        generator: Drawn from only to shuffle.
        shuffle: Take the classes in random order.
        sizes: The number of classes of each task.
        first: The number of classes of the first task.
        order: The classes in the order in which tasks take them.

    Raises:
        DataError: The classes cannot be divided so.
    """
    total = len(classes)
    if not isinstance(tasks, int):
        groups = [
            [_label(each, classes, ("tasks", i, j)) for j, each in enumerate(group)]
            for i, group in enumerate(tasks)
        ]
        _check_once([label for group in groups for label in group], classes, "tasks")
        if any(not group for group in groups):
            raise DataError("a task needs at least one class, got an empty list", key=("tasks",))
        return groups
    labels = torch.randperm(total, generator=generator).tolist() if shuffle else [*range(total)]
    if order is not None:
        labels = [_label(each, classes, ("class_order", i)) for i, each in enumerate(order)]
        _check_once(labels, classes, "class_order")
    sizes = sizes or _sizes(source, len(labels), tasks, first)
    if sum(sizes) > len(labels) or any(size < 1 for size in sizes):
        raise DataError(
            f"sizes {list(sizes)} take {sum(sizes)} classes, but there are {len(labels)}: expected "
            f"positive sizes that add up to {len(labels)} or fewer",
            key=("sizes",),
        )
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [labels[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _sizes(source: str, total: int, tasks: int, first: int | None) -> list[int]:
    if first is None:
        if total % tasks:
            fitting = ", ".join(str(count) for count in range(1, total + 1) if total % count == 0)
            raise DataError(
                f"{total} classes of {source!r} cannot be divided into {tasks} tasks equally: "
                f"tasks must be one of {fitting}; or list the classes of each task",
                key=("tasks",),
            )
        return [total // tasks] * tasks
    rest = total - first
    if tasks == 1:
        return [first]
    if rest < tasks - 1 or rest % (tasks - 1):
        raise DataError(
            f"{total} classes with {first} in the first task leave {rest}, which {tasks - 1} tasks "
            "cannot share equally: change first or tasks, or give sizes",
            key=("first",),
        )
    return [first, *[rest // (tasks - 1)] * (tasks - 1)]


def _label(given: int | str, classes: Sequence[str], key: tuple[str | int, ...]) -> int:
    """Return the label of a class that is given by its name, or by its label."""
    if str(given) in classes:
        return list(classes).index(str(given))
    if isinstance(given, int) and 0 <= given < len(classes):
        return given
    hint = did_you_mean(str(given), classes)
    raise DataError(f"{given!r} is not a class; {hint}", key=key)


def _check_once(labels: Sequence[int], classes: Sequence[str], key: str) -> None:
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise DataError(
            f"class {classes[twice]!r} is listed twice: list each class once", key=(key,)
        )
