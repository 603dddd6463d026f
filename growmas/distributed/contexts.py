"""Contexts that see a task's samples in several processes."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from growmas.contexts import Context, GaussianContext, RidgeContext, SharedGaussianContext
from growmas.contexts.context import TaskKey
from growmas.contexts.distributed import Mergeable, emptied, freeze_extract
from growmas.distributed.processes import size
from growmas.distributed.sharing import all_reduce, own_share


def update_context(
    context: Context, task: TaskKey, batches: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Add the samples of a task to a context; each process looks at its own rows of every batch.

    A collective call; every process gives the same batches, and the contexts stay the same.

    Args:
        context: The same in every process.
        task: Its name or index.
        batches: Pairs of inputs and labels.
    """
    kinds = (GaussianContext, RidgeContext, SharedGaussianContext)
    for kind in kinds if size() > 1 else ():
        if isinstance(context, kind):
            _update_together(context, task, list(batches))  # type: ignore[type-var]
            return
    for inputs, labels in batches:
        context.update(task, inputs, labels)


def _update_together(
    context: Mergeable, task: TaskKey, batches: Sequence[tuple[Tensor, Tensor]]
) -> None:
    freeze_extract(context, batches[0][0])
    part = emptied(context)
    for inputs, labels in own_share(batches):
        part.update(task, inputs, labels)
    context.merge(all_reduce(part))
