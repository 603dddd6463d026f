"""Streams with a head for each task, for methods that answer each task by itself."""

from dataclasses import replace

import torch

from growmas.data.splits import Split
from growmas.data.tasks import Stream, Task


def own_heads(stream: Stream) -> Stream:
    """Return the same tasks with a head each, and labels that are local to it.

    The result is for learning; test with the given stream. Its labels are found from the outputs
    of the new heads by `Stream.labels`. A stream whose scenario is
    ``"task"`` is returned as it is.

    >>> import torch
    >>> from growmas.data import load_source, split_stream
    >>> stream = split_stream(
    ...     load_source("digits"), tasks=5, scenario="class", generator=torch.Generator())
    >>> stream.head_sizes, own_heads(stream).head_sizes, own_heads(stream).labels[4]
    ((10,), (2, 2, 2, 2, 2), (8, 9))
    """
    if stream.scenario == "task":
        return stream
    of_class = stream.scenario == "class"
    labels = [
        task.classes if of_class else tuple(range(len(task.classes))) for task in stream.tasks
    ]
    tasks = [_own_head(task, meaning) for task, meaning in zip(stream.tasks, labels, strict=True)]
    sizes = tuple(len(meaning) for meaning in labels)
    return replace(stream, tasks=tuple(tasks), head_sizes=sizes, labels=tuple(labels))


def _own_head(task: Task, labels: tuple[int, ...]) -> Task:
    numbers = torch.tensor(labels)

    def local(split: Split) -> Split:
        found = (split.labels[:, None] == numbers).long().argmax(1)
        return split.relabelled(found)

    return replace(
        task,
        train=local(task.train),
        test=local(task.test),
        head=task.index,
        validation=local(task.validation) if task.validation else None,
    )
