"""Components of a context: whose samples are whose, and what their scores say of tasks."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from growmas.contexts.context import Answers, TaskKey
from growmas.contexts.density import Component
from growmas.contexts.settings import check_labels
from growmas.errors import ContextError

Owners = list[tuple[Component, Tensor]]
"""Components of one task, each with a mask [N] of the samples that are its own."""


def owners(
    per: Literal["task", "class"], task: TaskKey, labels: Tensor | None, samples: int
) -> Owners:
    """Return the components of a batch of a task.

    Raises:
        ContextError: Components are classes, and there are no labels.
        DataError: The labels are not whole numbers, one for each sample, from 0 on.
    """
    if per == "task":
        return [((task, None), torch.ones(samples, dtype=torch.bool))]
    if labels is None:
        raise ContextError(
            "per='class' needs labels: update(task, inputs, labels), or make the context with "
            "per='task' for unlabelled data"
        )
    check_labels(labels, samples)
    return [((task, label), labels == label) for label in sorted(set(labels.tolist()))]


def known_components(
    components: Sequence[Component], samples: int, labels: Tensor | None, task: TaskKey | None
) -> Tensor:
    """Return which components each sample may be of, given its label, its task or both.

    Returns:
        bool [N, M], one true in each row at least.

    Raises:
        ContextError: No component has such a label, or is of such a task; or labels are given
            where components are tasks.
        DataError: The labels do not fit.
    """
    known = torch.ones(samples, len(components), dtype=torch.bool)
    if labels is not None:
        check_labels(labels, samples)
        numbers = [label for _, label in components if label is not None]
        if not numbers:
            raise ContextError("components are tasks, without labels: give task= alone")
        known &= labels.cpu()[:, None] == torch.tensor(numbers)
    if task is not None:
        known &= torch.tensor([owner == task for owner, _ in components])
    if not known.any(1).all():
        of_task = "" if task is None else f" of task {task!r}"
        of_label = ""
        if labels is not None:
            strange = sorted(set(labels.cpu()[~known.any(1)].tolist()))
            of_label = f" with label {', '.join(map(str, strange[:10]))}"
        raise ContextError(
            f"no samples{of_task}{of_label} were seen yet: call update with some first, and "
            "calibrate with others"
        )
    return known


def task_scores(
    class_scores: Tensor, components: Sequence[Component], tasks: Sequence[TaskKey]
) -> Tensor:
    """Return log-probabilities of tasks [N, T], each the sum over its components of [N, M]."""
    owners = [task for task, _ in components]
    columns = [[i for i, owner in enumerate(owners) if owner == task] for task in tasks]
    return torch.stack([class_scores[:, own].logsumexp(1) for own in columns], 1)


def task_answers(
    class_scores: Tensor, components: Sequence[Component], tasks: Sequence[TaskKey]
) -> Answers:
    """Return a function: position of a task -> log p(class | x, task), [N, C_t].

    C_t is the largest label of the task plus one; a label that has no component gets −∞.
    """

    def answers(position: int) -> Tensor:
        if not 0 <= position < len(tasks):
            raise ContextError(f"no task at position {position}: there are {len(tasks)}")
        own = [i for i, (task, _) in enumerate(components) if task == tasks[position]]
        labels = [components[i][1] or 0 for i in own]
        found = class_scores.new_full((len(class_scores), max(labels) + 1), -math.inf)
        found[:, labels] = class_scores[:, own].log_softmax(1)
        return found

    return answers
