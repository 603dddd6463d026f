"""Calibration: running statistics of fresh BatchNorm channels from data."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from growmas.batches import Forward, default_forward
from growmas.errors import DataError
from growmas.preserving import preserving
from growmas.structure.units.edit import AxisChange


class _Moments:
    """Count, mean and sum of squared deviations of fresh channels, merged batch by batch."""

    def __init__(self, fresh: Tensor) -> None:
        self.fresh = fresh
        self.count = 0
        self.mean = torch.zeros(len(fresh), dtype=torch.float64, device=fresh.device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, seen: Tensor) -> None:
        """Merge an input of the norm, [N, channels, ...] (Chan et al. 1983, Eq. 2.1)."""
        values = seen.detach().index_select(1, self.fresh).movedim(1, 0).flatten(1).double()
        count = values.shape[1]
        mean = values.mean(1)
        total, shift = self.count + count, mean - self.mean
        self.squares += (values - mean[:, None]).square().sum(1)
        self.squares += shift.square() * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total


def calibrate_fresh(
    model: nn.Module,
    changes: Mapping[str, tuple[AxisChange, ...]],
    batches: Iterable[Any],
    forward: Forward | None = None,
) -> None:
    """Set the running mean and variance of fresh BatchNorm channels to those on data.

    Mean and unbiased variance are taken over all samples and positions, in eval mode. Old
    channels are not changed. A channel that is constant keeps variance 1.

    Args:
        model: The network with its tensors swapped; its fresh channels have no effect yet.
        changes: Qualified buffer name -> axis changes.
        batches: Unlabelled data, see `mas_importance`.
        forward: (model, batch) -> output, for batches of another kind.

    Raises:
        DataError: There is no batch, or a norm sees fewer than two values per channel.
    """
    moments = _fresh_norms(model, changes)
    if not moments:
        return
    handles = [norm.register_forward_pre_hook(_listener(m)) for norm, m in moments.items()]
    try:
        with preserving(model), torch.no_grad():
            for batch in batches:
                (forward or default_forward)(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if any(m.count < 2 for m in moments.values()):
        raise DataError("calibrate= must give every BatchNorm at least two values per channel")
    with torch.no_grad():
        for norm, m in moments.items():
            variance = m.squares / (m.count - 1)
            variance = torch.where(variance > 0, variance, 1.0)
            norm.running_mean.index_copy_(0, m.fresh, m.mean.to(norm.running_mean))  # type: ignore[union-attr]
            norm.running_var.index_copy_(0, m.fresh, variance.to(norm.running_var))  # type: ignore[union-attr]


def _fresh_norms(
    model: nn.Module, changes: Mapping[str, tuple[AxisChange, ...]]
) -> dict[_BatchNorm, _Moments]:
    norms = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            fresh = [change.fresh for change in changes.get(f"{name}.running_mean", ())]
            if fresh and len(fresh[0]):
                norms[module] = _Moments(fresh[0].to(module.running_mean.device))
    return norms


def _listener(moments: _Moments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda module, inputs: moments.add(inputs[0])
