"""Answers of views: each sample by the view of its own task, or all views weighed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.batches import batch_size, default_forward, map_tensors, to_device
from growmas.contexts.context import UNKNOWN, Answers, Context, TaskKey
from growmas.errors import ContextError
from growmas.preserving import preserving
from growmas.structure import Structure

TaskForward = Callable[[nn.Module, Any, int], Tensor]
"""(model, inputs, position of the task) -> logits [N, C]; it chooses the head."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network answers to N samples that came without a task.

    Attributes:
        tasks: int64 [N], positions in the context's `tasks`; `UNKNOWN` for a sample unlike all.
        logits: [N, C] of the views of those tasks, the latest one where the task is unknown. C is
            the size of the largest head that answered; smaller ones are filled up with −∞.
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
    """Ask the context for the task of each sample, and the view of that task for its answer.

    The model is run in eval mode, without gradients, and left bit-identical.

    Args:
        structure: The network.
        context: Its `tasks` must be names or indices that `structure.view` knows.
        inputs: N samples: a tensor, or a tuple or dict of tensors, see `mas_importance`.
        forward: (model, inputs, position in `context.tasks`) -> logits [N, C]. None calls the
            model with the inputs.
        together: See `Context.select`.

    Raises:
        ContextError: The context has seen no task, cannot tell, or a view does not take the inputs.
        PlanError: The structure has no such task.
    """
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
    """Logits of each sample by the view of its own task, [N, C] in the order of the inputs.

    Samples of one task go through the network together, so that every view is run once at most.
    See `answer_by_context` for how the model is run.

    Args:
        structure: The network.
        chosen: int64 [N], positions in `tasks`; `UNKNOWN` is answered by the last of them.
        inputs: See `answer_by_context`.
        tasks: Names or indices of tasks; None takes all that the structure has begun.
        forward: See `answer_by_context`.

    Returns:
        [N, C], C the size of the largest head that answered, smaller ones filled up with −∞;
        [0, 0] without samples.

    Raises:
        ContextError: `chosen` does not fit the inputs or the tasks, or a view the inputs.
        PlanError: The structure has no such task.
    """
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
) -> Answers:
    """Position of a task -> logits of its view for all inputs, run when asked for and then kept.

    What `Context.scores` and `combine_views` take. See `answer_by_context` for how the model is
    run.

    Args:
        structure: The network.
        inputs: See `answer_by_context`.
        tasks: Names or indices of tasks; None takes all that the structure has begun.
        forward: See `answer_by_context`.
    """
    known = tuple(structure.tasks if tasks is None else tasks)

    def answer(position: int) -> Tensor:
        if not 0 <= position < len(known):
            raise ContextError(f"no task at position {position}: the views are of {len(known)}")
        return _run(structure, known[position], inputs, position, forward)

    return cache(answer)


def combine_views(
    scores: Tensor,
    answers: Answers,
    *,
    classes: Sequence[Sequence[int]] | None = None,
    experts: Answers | None = None,
) -> Tensor:
    """Log-probability of every class of every task, log p(task | x) + log p(class | x, task).

    Args:
        scores: [N, T] of `Context.scores`.
        answers: Position of a task -> logits [N, C_t] over the classes of that task alone.
        classes: For each task, the numbers that its C_t outputs have among all C classes; a class
            of several tasks collects the probability of all, and a number below the largest that
            no output has gets −∞. None: every output of every task is a class of its own.
        experts: Position of a task -> log-probabilities [N, C_t] of its classes by something else
            than its view, such as `GaussianContext.class_answers`; both are multiplied, and a
            task on whose classes they disagree counts less (a product of experts, Hinton 2002).

    Returns:
        [N, C].

    Raises:
        ContextError: `classes` or `experts` does not fit the answers, or they are of other samples
            or tasks.
    """
    if scores.dim() != 2 or not scores.shape[1]:
        raise ContextError(
            f"scores must be log-probabilities of tasks [N, T], got {list(scores.shape)}"
        )
    parts = [_joint(scores, answers, task, experts) for task in range(scores.shape[1])]
    together = torch.cat(parts, 1)
    if experts is not None:
        together = together.log_softmax(1)
    if classes is None:
        return together
    owners = _owners(classes, [part.shape[1] for part in parts])
    columns = [together[:, owners == number] for number in range(int(owners.max()) + 1)]
    return torch.stack([column.logsumexp(1) for column in columns], 1)


def _owners(classes: Sequence[Sequence[int]], sizes: list[int]) -> Tensor:
    """The number of the class that each output of each task stands for, one after the other."""
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


def _joint(scores: Tensor, answers: Answers, task: int, experts: Answers | None) -> Tensor:
    """Log-probability of a task and each of its classes, [N, C_t]."""
    of_view = answers(task).to(scores).log_softmax(1)
    if len(of_view) != len(scores):
        raise ContextError(
            f"scores are of {len(scores)} samples and the views answered {len(of_view)}: give both "
            "the same inputs"
        )
    if experts is None:
        return scores[:, [task]] + of_view
    of_expert = experts(task).to(scores)
    if of_expert.shape != of_view.shape:
        raise ContextError(
            f"experts must say of task {task} what its view says, {list(of_view.shape)}, got "
            f"{list(of_expert.shape)}"
        )
    return scores[:, [task]] + of_view + of_expert


def _run(
    structure: Structure, task: TaskKey, inputs: Any, position: int, forward: TaskForward | None
) -> Tensor:
    model = structure.model
    moved = to_device(inputs, next(model.parameters()).device)
    with preserving(model), torch.no_grad(), structure.view(task):
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
                f"the view of task {task!r} does not take these inputs: {error}. Give samples of "
                "the shape the network takes, or forward=lambda model, inputs, task: ..."
            ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ContextError(
            f"the view of task {task!r} must answer with logits [N, C], got {got}: give "
            "forward=lambda model, inputs, task: ..., which chooses among several outputs"
        )
    return logits


def _check_chosen(chosen: Tensor, inputs: Any, tasks: Sequence[TaskKey]) -> None:
    samples = batch_size(inputs)
    if samples is None:
        raise ContextError(
            "the inputs cannot be cut into samples: give a tensor, or a tuple or dict of tensors "
            "with one row for each sample"
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
