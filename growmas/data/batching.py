"""Batches of the samples of a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from growmas.data import transforms as augmentation
from growmas.data.splits import Split
from growmas.errors import DataError

Batch = TypeVar("Batch", covariant=True)


def batches(
    split: Split,
    size: int,
    *,
    generator: torch.Generator | None = None,
    transforms: Sequence[augmentation.Transform] = (),
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return one pass over all samples, as pairs (inputs, labels); the last may be smaller.

    Args:
        split: N samples.
        size: of a batch.
        generator: on the CPU; shuffles the samples, anew at each call. Without it they come in
            order; of a split with plain inputs, as views.
        transforms: random changes of inputs, before their normalisation; they need a generator,
            from which each batch has a seed of its own.
        workers: processes that prepare batches; batches are the same for any number.

    Raises:
        DataError: at the call, if ``size`` is not positive or there are no samples.
    """
    if size < 1:
        raise DataError(f"a batch needs at least 1 sample, got size {size}")
    if not len(split):
        raise DataError("the split has no samples to make batches of")
    if generator is None:
        if transforms:
            raise DataError("transforms draw random numbers: give a generator")
        order = torch.arange(len(split)) if workers else None
    else:
        order = torch.randperm(len(split), generator=generator)
    if order is None:
        starts = range(0, len(split), size)
        return (_pair(split, slice(start, start + size)) for start in starts)
    rows = torch.split(order, size)
    seeds: list[int] = [0] * len(rows)
    if transforms:
        seeds = torch.randint(2**62, (len(rows),), generator=generator).tolist()
    prepared = _Prepared(split, rows, seeds, tuple(transforms))
    if not workers:
        return (prepared[index] for index in range(len(rows)))
    return iter(in_processes(prepared, range(len(rows)), min(workers, len(rows))))


class Prepared(Protocol[Batch]):
    """Batches by number, each of them the same whenever it is asked for."""

    def __getitem__(self, index: int, /) -> Batch:
        """Return one batch: a tuple of tensors and numbers."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The batches of one pass, by number; worker processes hold a copy.

    Attributes:
        split: The samples.
        rows: Of each batch.
        seeds: Of the transforms of each batch.
        transforms: Random changes of inputs.
    """

    split: Split
    rows: Sequence[Tensor]
    seeds: Sequence[int]
    transforms: tuple[augmentation.Transform, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rows = self.rows[index]
        if not self.transforms:
            return _pair(self.split, rows)
        change = augmentation.SeededChain(self.transforms, self.seeds[index])
        return self.split.augmented(rows, change), self.split.labels[rows]


def in_processes(
    prepared: Prepared[Batch], order: Iterable[int], workers: int
) -> torch.utils.data.DataLoader[Batch]:
    """Return a loader whose processes prepare batches ahead.

    Args:
        prepared: Batches by number; each process holds a copy.
        order: Numbers of the batches, in the order in which they come.
        workers: Number of processes, at least 1.
    """
    return torch.utils.data.DataLoader(
        prepared,  # type: ignore[arg-type]
        batch_size=None,
        sampler=order,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # so that the global random state stays as it is
    )


def _pair(split: Split, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
    return split.take(rows), split.labels[rows]
