"""Importance of data that is sharded over the processes of a distributed run."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, distributed as dist, nn

from growmas.batches import Forward
from growmas.importance.mas import importance_sum
from growmas.importance.measurement import Samples
from growmas.importance.objective import Function
from growmas.importance.ragged import Owner
from growmas.importance.selection import Parameters, in_own_dtypes
from growmas.importance.sums import warn_if_zero


def distributed_importance(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: Function = "squared_norm",
    parameters: Parameters = "all",
    samples: Samples | None = None,
    owner: Owner | None = None,
    group: dist.ProcessGroup | None = None,
) -> dict[str, Tensor]:
    """Return `mas_importance` over the data of all processes; every sample counts once.

    `mas_importance` itself is local. This function is a collective call: every process of the
    group calls it with its own shard, which may have any size or be empty, and all get the same
    Ω. Without a process group it equals `mas_importance`.

    Args:
        model: The same network in every process, unwrapped (`ddp.module`).
        batches: The shard of this process.
        forward: `forward(model, batch) -> output`, as in `mas_importance`.
        function: The objective, as in `mas_importance`.
        parameters: Which parameters are measured, as in `mas_importance`.
        samples: `samples(batch) -> N`, as in `mas_importance`.
        owner: The sample of each row, as in `mas_importance`.
        group: None for the default group.

    Raises:
        DataError: No process has a sample; or an error of `mas_importance` on a shard.
        ImportanceError: In every process, if their networks differ in a name or a shape.

    Example:
        A penalty that is the same in every process:

        >>> import torch, growmas
        >>> mas = growmas.MAS(torch.nn.Linear(3, 2))
        >>> shard = [torch.ones(4, 3)]
        >>> mas.consolidate(growmas.distributed_importance(mas.model, shard))
    """
    total = importance_sum(
        model,
        batches,
        forward=forward,
        function=function,
        parameters=parameters,
        samples=samples,
        owner=owner,
        warn=False,
    )
    omega = total.all_reduce(group).importance()
    warn_if_zero(omega, stacklevel=3)
    return in_own_dtypes(model, omega)
