"""Sharing of a batch, and of what each process found on its rows."""

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, distributed as dist, nn
from torch.nn.modules.batchnorm import _NormBase

from growmas.batches import batch_size
from growmas.contexts import (
    GaussianContext,
    RidgeContext,
    SharedGaussianContext,
    gather_context,
)
from growmas.distributed.processes import rank, size
from growmas.errors import ImportanceError
from growmas.importance import ImportanceSum
from growmas.structure import ActivationStatistics

Gathered = TypeVar(
    "Gathered",
    ImportanceSum,
    GaussianContext,
    RidgeContext,
    SharedGaussianContext,
    ActivationStatistics,
)


def own_rows(batch: Any, *, group: dist.ProcessGroup | None = None) -> Any:
    """Return the rows of a batch that this process works on: every size-th, from its rank.

    Args:
        batch: A tensor [N, ...], or a tuple, list or dict of such; the same in every process.
        group: None for the default group.
    """
    if size(group) == 1:
        return batch
    if isinstance(batch, Tensor):
        return batch[rank(group) :: size(group)]
    if isinstance(batch, Mapping):
        return {name: own_rows(each, group=group) for name, each in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(own_rows(each, group=group) for each in batch)
    raise ImportanceError(
        f"a batch of type {type(batch).__name__} cannot be shared: give a tensor, or a tuple, list "
        "or dict of tensors"
    )


def own_share(batches: Iterable[Any], *, group: dist.ProcessGroup | None = None) -> Iterator[Any]:
    """Yield the rows of each batch that this process works on; batches without one are left out."""
    for batch in batches:
        rows = own_rows(batch, group=group)
        if batch_size(rows) != 0:
            yield rows


@overload
def all_reduce(
    found: Gathered, *, samples: None = None, group: dist.ProcessGroup | None = None
) -> Gathered: ...


@overload
def all_reduce(
    found: Mapping[str, Tensor], *, samples: int, group: dist.ProcessGroup | None = None
) -> dict[str, Tensor]: ...


def all_reduce(
    found: Any, *, samples: int | None = None, group: dist.ProcessGroup | None = None
) -> Any:
    """Return what all processes found together, as if one had seen all samples.

    A collective call; every process gets the same result, and what it gave stays as it is. Without
    a process group it is returned as it is, or a copy.

    Args:
        found: An `ImportanceSum`; a `GaussianContext`, `RidgeContext` or `SharedGaussianContext`;
            `ActivationStatistics`; or an importance (parameter name -> Ω), which needs `samples`.
        samples: How many samples the importance is the mean of, in this process.
        group: None for the default group.

    Raises:
        ImportanceError: In every process, if the networks differ, or `found` is something else.
        ContextError: The contexts do not merge.
        DataError: The statistics are of other layers or widths, or there is no sample.
    """
    if isinstance(found, ImportanceSum):
        return found.all_reduce(group)
    for kind in (GaussianContext, RidgeContext, SharedGaussianContext):
        if isinstance(found, kind):
            return gather_context(found, group=group)  # type: ignore[type-var]
    if isinstance(found, ActivationStatistics):
        return _gathered_statistics(found, group)
    if isinstance(found, Mapping) and all(isinstance(each, Tensor) for each in found.values()):
        if samples is None:
            raise ImportanceError(
                "an importance is a mean: give samples=, the number of samples of this process"
            )
        return ImportanceSum.of(found, samples).all_reduce(group).importance()
    raise ImportanceError(
        f"a {type(found).__name__} cannot be added up over processes: give an importance with "
        "samples=, an ImportanceSum, ActivationStatistics, or a context with statistics"
    )


def _gathered_statistics(
    statistics: ActivationStatistics, group: dist.ProcessGroup | None
) -> ActivationStatistics:
    """Return statistics that saw the samples of all processes."""
    whole = copy(statistics)
    if size(group) == 1:
        return whole
    states: list[Any] = [None] * size(group)
    dist.all_gather_object(states, statistics.state_dict(), group=group)
    whole.load_state_dict(states[0])
    for state in states[1:]:
        part = copy(statistics)
        part.load_state_dict(state)
        whole.merge(part)
    return whole


def average_norms(
    model: nn.Module, weight: float, *, group: dist.ProcessGroup | None = None
) -> None:
    """Average the running statistics of BatchNorm layers over all processes; a collective call.

    Args:
        model: The network, after a forward pass on the rows of this process.
        weight: Share of this process in the rows of the batch.
        group: None for the default group.
    """
    if size(group) == 1:
        return
    for module in model.modules():
        if not isinstance(module, _NormBase) or not module.training:
            continue
        for held in (module.running_mean, module.running_var):
            if held is not None:
                held.mul_(weight)
                dist.all_reduce(held, group=group)


def add_gradients(
    parameters: Iterable[Tensor], number: Tensor, *, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Add up gradients over all processes, in place, and return the sum of a number.

    A collective call, in which all gradients are one message for each type and device. Parameters
    without a gradient are left out: they are the same in every process.

    Args:
        parameters: The parameters.
        number: A scalar of this process, such as its part of the loss.
        group: None for the default group.
    """
    if size(group) == 1:
        return number
    gradients = [p.grad for p in parameters if p.grad is not None]
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    total = number.detach().clone().reshape(1)
    for each in [total, *gradients]:
        kinds.setdefault((each.dtype, each.device), []).append(each)
    for tensors in kinds.values():
        flat = torch.cat([each.reshape(-1) for each in tensors])
        dist.all_reduce(flat, group=group)
        parts = torch.split(flat, [each.numel() for each in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    return total.reshape(())
