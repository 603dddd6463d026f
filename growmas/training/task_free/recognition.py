"""Contexts learnt from batches, and recognised when they come back."""

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from growmas.batches import cut
from growmas.contexts import GaussianContext
from growmas.training.task_free.memory import StreamMemory
from growmas.training.task_free.outputs import ContextOutputs
from growmas.training.task_free.recent import Seen

NEAR = 0.3
"""How near its usual loss a known context must come to be recognised: a share of the way from
there to the loss that gave the shift away."""


def recognise(
    new: Sequence[Seen],
    *,
    tasks: Sequence[str],
    context: GaussianContext,
    outputs: ContextOutputs,
    memory: StreamMemory,
) -> tuple[int, int | None]:
    """Return the likeliest context by the inputs, and again if its loss is near its usual one.

    Args:
        new: The batches since a peak began.
        tasks: Names of all contexts, in order.
        context: Statistics of the inputs of each context.
        outputs: Measure the loss in a context.
        memory: With the usual loss of each context, and the current one.
    """
    if not context.tasks:
        return memory.current, None
    scores = torch.stack([context.scores(seen.inputs).sum(0) for seen in new]).sum(0)
    likeliest = tasks.index(str(context.tasks[int(scores.argmax())]))
    usual, noticed = memory.levels[likeliest], statistics.mean(seen.loss for seen in new)
    now = statistics.mean(outputs.measure(one.learnt, one.labels, likeliest) for one in new)
    near = now <= usual + NEAR * (noticed - usual)
    return likeliest, likeliest if near else None


def update_context(
    context: GaussianContext, name: str, seen: Sequence[Seen], *, samples: int
) -> None:
    """Update the statistics of a context with batches it has not seen, and mark these as seen.

    Args:
        context: To update.
        name: Of the context the batches belong to.
        seen: Batches; those marked as taken are left out.
        samples: How many samples of each batch, the first ones.
    """
    fresh = [one for one in seen if not one.taken]
    parts = [cut(one.inputs, 0, samples) for one in fresh]
    if parts and all(isinstance(part, Tensor) for part in parts):
        parts = [torch.cat(parts)]
    for part in parts:
        context.update(name, part)
    for one in fresh:
        one.taken = True
