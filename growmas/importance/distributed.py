"""Importance of data that is spread over the processes of a distributed run."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, distributed as dist, nn

from growmas.batches import Forward
from growmas.importance.mas import importance_sum


def distributed_importance(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: str | Callable[[Any], Tensor] = "squared_norm",
    group: dist.ProcessGroup | None = None,
) -> dict[str, Tensor]:
    """`mas_importance` over the data of all processes: every sample counts once, wherever it is.

    `mas_importance` itself stays local. This one is a collective call: every process of the group
    makes it with its own shard, which may be of any size or empty, and all get the same Ω. Where
    no process group is up it is `mas_importance`.

    Args:
        model: The same network in every process, unwrapped (`ddp.module`).
        batches: The shard of this process.
        forward: See `mas_importance`.
        function: See `mas_importance`.
        group: None for the default group.

    Raises:
        DataError: No process has a sample; or what `mas_importance` raises on a shard.
        ImportanceError: In every process, if their networks differ in a name or a shape.

    Example:
        For a penalty that is the same everywhere:

        >>> import torch, growmas
        >>> mas = growmas.MAS(torch.nn.Linear(3, 2))
        >>> shard = [torch.ones(4, 3)]
        >>> mas.consolidate(growmas.distributed_importance(mas.model, shard))
    """
    total = importance_sum(model, batches, forward=forward, function=function)
    omega = total.all_reduce(group).importance()
    return {name: found.to(model.get_parameter(name).dtype) for name, found in omega.items()}
