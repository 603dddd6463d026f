"""Batches of the samples of a split."""

from collections.abc import Iterator

import torch
from torch import Tensor

from growmas.data.splits import Split
from growmas.errors import DataError


def batches(
    split: Split, size: int, *, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return one pass over all samples, as pairs (inputs, labels); the last may be smaller.

    Args:
        split: N samples.
        size: of a batch.
        generator: on the CPU; shuffles the samples, anew at each call. Without it they come in
            order; of a split with plain inputs, as views.

    Raises:
        DataError: at the call, if ``size`` is not positive or there are no samples.
    """
    if size < 1:
        raise DataError(f"a batch needs at least 1 sample, got size {size}")
    if not len(split):
        raise DataError("the split has no samples to make batches of")
    if generator is None:
        starts = range(0, len(split), size)
        return (_pair(split, slice(start, start + size)) for start in starts)
    order = torch.randperm(len(split), generator=generator)
    return (_pair(split, rows) for rows in torch.split(order, size))


def _pair(split: Split, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
    return split.take(rows), split.labels[rows]
