"""Sums for the gain and shift of a batch norm, for each sample and channel."""

import torch
from torch import Tensor


def channel_sums(
    delta: Tensor, seen: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor] | None:
    """Return Σ_p δ x̂ and Σ_p δ, each [N, C], in one pass; None where the library has none.

    The library sums over samples. With every channel of every sample as a channel of its own, it
    sums over positions alone, in a third to a sixth of the time of separate products and sums.

    Args:
        delta: [N, C, *positions].
        seen: The input, of the same shape.
        mean: Running mean, [C].
        var: Running variance, [C].
        eps: Added to the variance.
    """
    same = delta.dtype == seen.dtype == mean.dtype == var.dtype
    if not same or delta.dim() < 3 or delta.device.type != "cpu":
        return None
    n, channels = delta.shape[:2]
    flat = [tensor.reshape(1, n * channels, -1) for tensor in (delta, seen)]
    _, gain, shift = torch.ops.aten.native_batch_norm_backward(
        *flat, None, mean.repeat(n), var.repeat(n), None, None, False, eps, [False, True, True]
    )
    return gain.view(n, channels), shift.view(n, channels)
