"""Answers of views: each sample by the view of its own task, or by all views, weighted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.batches import batch_size, cut, default_forward, map_tensors, to_device
from growmas.contexts.context import UNKNOWN, Answers, Context, TaskKey, check_is_context
from growmas.contexts.settings import check_settings
from growmas.errors import ContextError
from growmas.preserving import preserving
from growmas.settings import is_number
from growmas.structure import Structure

ROWS = 512
"""Samples that a view answers at once: more take longer each, and memory in proportion."""

TaskForward = Callable[[nn.Module, Any, int], Tensor]
"""(model, inputs, position of the task) -> logits [N, C]; it chooses the head of the task."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer of a network to N samples that came without a task.

    Attributes:
        tasks: int64 [N], positions in the context's `tasks`; `UNKNOWN` for a sample unlike all.
        logits: [N, C] of the views of those tasks; of the latest one where the task is unknown. C
            is the size of the largest head that answered; smaller ones are padded with −∞.
    """

    tasks: Tensor
    logits: Tensor


def answer_by_context(
    structure: Structure,
    context: Context,
    inputs: Any,
    *,
    forward: TaskForward | None = None,
    together: bool = False,
) -> Answer:
    """Answer each sample by the view of the task that the context names for it.

    The model is run in eval mode, without gradients, and left bit-identical.

    Args:
        structure: The network.
        context: A context whose `tasks` are names or indices that `structure.view` knows.
        inputs: N samples: a tensor, or a tuple or dict of tensors, see `mas_importance`.
        forward: (model, inputs, position in `context.tasks`) -> logits [N, C]. None calls the
            model with the inputs.
        together: All samples come from one task and get the same answer.

    Raises:
        ContextError: `context` is not a context or has not seen a task, `structure` or `forward`
            is something else, or a view does not take the inputs.
        PlanError: The structure has no task of that name or index.
    """
    check_is_context(context)
    answers = view_answers(structure, inputs, tasks=context.tasks, forward=forward)
    chosen = context.select(inputs, answers, together=together)
    logits = answer_by_view(structure, chosen, inputs, tasks=context.tasks, forward=forward)
    return Answer(chosen, logits)


def answer_by_view(
    structure: Structure,
    chosen: Tensor,
    inputs: Any,
    *,
    tasks: Sequence[TaskKey] | None = None,
    forward: TaskForward | None = None,
) -> Tensor:
    """Return logits of each sample by the view of its own task, [N, C] in the order of the inputs.

    Samples of one task go through the network together, so that every view is run once at most.
    The model is run in eval mode, without gradients, and left bit-identical.

    Args:
        structure: The network.
        chosen: int64 [N], positions in `tasks`; `UNKNOWN` is answered by the last task.
        inputs: N samples: a tensor, or a tuple or dict of tensors.
        tasks: Names or indices of tasks; None takes all that the structure has begun.
        forward: (model, inputs, position in `tasks`) -> logits [N, C]. None calls the model with
            the inputs.

    Returns:
        [N, C], where C is the size of the largest head that answered and smaller ones are padded
        with −∞; [0, 0] without samples.

    Raises:
        ContextError: `chosen` does not fit the inputs or the tasks, or a view does not take the
            inputs.
        PlanError: The structure has no task of that name or index.
    """
    _check_arguments(structure, forward)
    known = tuple(structure.tasks if tasks is None else tasks)
    _check_chosen(chosen, inputs, known)
    positions = torch.where(chosen == UNKNOWN, len(known) - 1, chosen)
    parts, places = [], []
    for position in sorted(set(positions.tolist())):
        places.append((positions == position).nonzero().squeeze(1))
        rows = map_tensors(inputs, lambda t, at=places[-1]: t[at.to(t.device)])  # type: ignore[misc]
        parts.append(_run(structure, known[position], rows, position, forward))
    if not parts:
        return torch.zeros(0, 0)
    width = max(part.shape[1] for part in parts)
    filled = [F.pad(part, (0, width - part.shape[1]), value=-torch.inf) for part in parts]
    return torch.cat(filled)[torch.cat(places).argsort().to(filled[0].device)]


def view_answers(
    structure: Structure,
    inputs: Any,
    *,
    tasks: Sequence[TaskKey] | None = None,
    forward: TaskForward | None = None,
    own_classes: bool = False,
) -> Answers:
    """Return a function: position of a task -> logits of its view for all inputs.

    It is the `answers` of `Context.scores` and `combine_views`. A view is run when it is first
    asked for, in eval mode and without gradients; its logits are then kept. The model is left
    bit-identical.

    Args:
        structure: The network.
        inputs: N samples: a tensor, or a tuple or dict of tensors.
        tasks: Names or indices of tasks; None takes all that the structure has begun.
        forward: (model, inputs, position in `tasks`) -> logits [N, C]. None calls the model with
            the inputs.
        own_classes: True asks each view for the classes that came with its task alone, where tasks
            share a head that grew; `combine_views` expects that.

    Raises:
        ContextError: `structure` or `forward` is something else.
    """
    _check_arguments(structure, forward)
    known = tuple(structure.tasks if tasks is None else tasks)

    def answer(position: int) -> Tensor:
        if not 0 <= position < len(known):
            raise ContextError(
                f"no task at position {position}: there are views of {len(known)} tasks"
            )
        return _run(structure, known[position], inputs, position, forward, own=own_classes)

    return cache(answer)


def combine_views(
    scores: Tensor,
    answers: Answers,
    *,
    classes: Sequence[Sequence[int]] | None = None,
    experts: Answers | None = None,
    weight: float = 1.0,
) -> Tensor:
    """Return the log-probability of each class of each task.

    It is log p(task | x) + log p(class | x, task). With experts it is the product of both,
    log p(task | x) + log p_expert(class | x, task) + weight · log p_view(class | x, task),
    normalised again.

    Args:
        scores: [N, T] log-probabilities of tasks, from `Context.scores`.
        answers: Position of a task -> logits [N, C_t] over the classes of that task alone.
        classes: For each task, the numbers of its C_t outputs among all C classes. The
            probabilities of a class that occurs in several tasks are added; a number below the
            largest that no output has gets −∞. None: every output of every task is a class of its
            own.
        experts: Position of a task -> log-probabilities [N, C_t] of its classes from another
            source than its view, such as `RidgeContext.class_answers`. The two are multiplied,
            so that a task counts less if they disagree about its classes (a product of experts,
            Hinton 2002).
        weight: Weight of the views beside experts. Heads are surer than they are right: beside a
            good context they lower the accuracy at 1, and 0.1 to 0.25 is the most they should
            have.

    Returns:
        [N, C].

    Raises:
        ContextError: `classes` or `experts` does not fit the answers, the answers are of other
            samples or tasks than the scores, or the weight is negative, or not 1 without experts.
    """
    if not isinstance(scores, Tensor) or scores.dim() != 2 or not scores.shape[1]:
        got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ContextError(f"scores must be log-probabilities of tasks [N, T], got {got}")
    for key, given in (("answers", answers), ("experts", experts)):
        if not (callable(given) or (key == "experts" and given is None)):
            raise ContextError(
                f"{key}={given!r:.80}: expected a function, position of a task -> [N, C_t], such "
                "as view_answers(structure, inputs)"
            )
    _check_weight(weight, experts)
    parts = [_joint(scores, answers, task, experts, weight) for task in range(scores.shape[1])]
    together = torch.cat(parts, 1)
    if experts is not None:
        together = together.log_softmax(1)
    if classes is None:
        return together
    owners = _owners(classes, [part.shape[1] for part in parts])
    columns = [together[:, owners == number] for number in range(int(owners.max()) + 1)]
    return torch.stack([column.logsumexp(1) for column in columns], 1)


def _owners(classes: Sequence[Sequence[int]], sizes: list[int]) -> Tensor:
    """Return the class number of each output of each task, one task after the other."""
    try:
        given = [len(numbers) for numbers in classes]
        fits = given == sizes and all(int(n) == n >= 0 for numbers in classes for n in numbers)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ContextError(
            f"classes must number the outputs of every task from 0 on, {sizes} of them, got "
            f"{classes!r:.200}"
        )
    return torch.tensor([int(number) for numbers in classes for number in numbers])


def _check_weight(weight: object, experts: Answers | None) -> None:
    """Refuse a weight of views that is out of range, or has nothing to weigh them against."""
    fits = is_number(weight) and weight >= 0  # type: ignore[operator]
    check_settings(weight=(weight, fits, "a number >= 0"))
    if experts is None and weight != 1:
        raise ContextError(
            f"weight={weight}: expected 1 without experts, as the views alone know the classes; "
            "give experts=context.class_answers(inputs)"
        )


def _joint(
    scores: Tensor, answers: Answers, task: int, experts: Answers | None, weight: float
) -> Tensor:
    """Return the joint log-probability of a task and each of its classes, [N, C_t]."""
    of_view = answers(task).to(scores).log_softmax(1)
    if len(of_view) != len(scores):
        raise ContextError(
            f"scores are of {len(scores)} samples and the views answered {len(of_view)}: compute "
            "both from the same inputs"
        )
    if experts is None:
        return scores[:, [task]] + of_view
    of_expert = experts(task).to(scores)
    if of_expert.shape != of_view.shape:
        raise ContextError(
            f"experts must answer for task {task} as its view does, {list(of_view.shape)}, got "
            f"{list(of_expert.shape)}"
        )
    return scores[:, [task]] + weight * of_view + of_expert


def _run(
    structure: Structure,
    task: TaskKey,
    inputs: Any,
    position: int,
    forward: TaskForward | None,
    *,
    own: bool = False,
) -> Tensor:
    """Return the logits of the view of one task, batch by batch, the model left as it was."""
    model = structure.model
    samples, device = batch_size(inputs), next(model.parameters()).device
    starts = [0] if samples is None else range(0, max(samples, 1), ROWS)
    parts = []
    with preserving(model), torch.no_grad(), structure.view(task, own_classes=own):
        for start in starts:
            batch = inputs if len(starts) == 1 else cut(inputs, start, start + ROWS)
            moved = to_device(batch, device)
            try:
                logits: Tensor
                if forward is not None:
                    logits = forward(model, moved, position)
                else:
                    logits = default_forward(model, moved)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise ContextError(
                    f"the view of task {task!r} does not take these inputs: {error}. Give samples "
                    "of the shape the network takes, or forward=lambda model, inputs, task: ..."
                ) from error
            _check_logits(logits, task)
            parts.append(logits)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _check_logits(logits: object, task: TaskKey) -> None:
    """Refuse what a view answers if it is not one score for each class."""
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ContextError(
            f"the view of task {task!r} must answer with logits [N, C], got {got}: give "
            "forward=lambda model, inputs, task: ..., which chooses among several outputs"
        )


def _check_arguments(structure: object, forward: object) -> None:
    """Refuse a structure or a forward of the wrong type."""
    if not isinstance(structure, Structure):
        raise ContextError(f"structure: expected Structure, got {type(structure).__name__}")
    if not (forward is None or callable(forward)):
        raise ContextError(
            f"forward={forward!r:.80}: expected a function (model, inputs, position of the task) "
            "-> logits [N, C], or None"
        )


def _check_chosen(chosen: Tensor, inputs: Any, tasks: Sequence[TaskKey]) -> None:
    """Refuse positions that do not fit the inputs or the tasks."""
    samples = batch_size(inputs)
    if samples is None:
        raise ContextError(
            "the inputs cannot be divided into samples: give a tensor, or a tuple or dict of "
            "tensors with one row for each sample"
        )
    if not isinstance(chosen, Tensor):
        raise ContextError(f"chosen must be an int64 tensor [N], got {type(chosen).__name__}")
    if chosen.dtype != torch.int64 or chosen.dim() != 1 or len(chosen) != samples:
        raise ContextError(
            f"chosen must be int64, one task for each of the {samples} samples, got "
            f"{chosen.dtype} {list(chosen.shape)}"
        )
    wrong = sorted({i for i in chosen.tolist() if not UNKNOWN <= i < len(tasks)})
    if wrong or not tasks:
        raise ContextError(
            f"chosen must hold positions among the {len(tasks)} tasks, or UNKNOWN ({UNKNOWN}), "
            f"got {wrong}"
        )
