"""Splits: samples to learn from or to test on, read and computed batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from growmas.data.numbers import as_numbers
from growmas.data.preparation import Scaling

SMALL = 32 * 2**20
"""Bytes up to which the computed inputs of a split are kept."""


class Change(Protocol):
    """Function of a batch of inputs that a stream applies, such as a permutation of pixels."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the changed inputs, of the same number of samples."""

    def identity(self) -> bytes:
        """Return bytes that tell this change from every other."""


class Split:
    """N samples: inputs [N, ...] and labels int64 [N].

    Inputs may be stored as uint8 or float16, lie in a memory-mapped file, be shared with other
    splits, and be changed when they are read: `take` computes a batch. Of a small split (up to 32
    MiB of inputs) the computed inputs are kept.

    Args:
        inputs: [M, ...]; uint8 is read as 0 … 1, float16 and float64 as float32, and other whole
            numbers stay as they are (tokens).
        labels: int64 [N].
        rows: The rows of `inputs` that belong to the split; None for all of them.
        scaling: Normalises inputs.
        changes: Applied one after the other, after the normalisation.
        shared: True if others hold the same tensor of inputs; `inputs` is then a copy.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        rows: Tensor | None = None,
        scaling: Scaling | None = None,
        changes: Sequence[Change] = (),
        shared: bool = False,
    ) -> None:
        self.stored = inputs
        self.labels = labels
        self.rows = rows
        self.scaling = scaling
        self.changes = tuple(changes)
        self.shared = shared
        self._kept: Tensor | None = inputs if self._is_plain else None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def inputs(self) -> Tensor:
        """All inputs, computed: float32 or whole numbers [N, ...]."""
        found = self.take(slice(None))
        return found.clone() if self.shared and self._is_plain else found

    def take(self, rows: Tensor | slice) -> Tensor:
        """Return the inputs of some samples.

        Args:
            rows: Positions in the split, int64, or a slice.
        """
        if self._kept is None and self._size <= SMALL:
            self._kept = self._computed(slice(None))
        return self._computed(rows) if self._kept is None else self._kept[rows]

    def augmented(self, rows: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the inputs of some samples with a change that comes before all others.

        Args:
            rows: Positions in the split, int64.
            change: Of inputs as numbers, before their normalisation.
        """
        stored = self.stored[rows if self.rows is None else self.rows[rows]]
        return self._finished(change(as_numbers(stored)))

    def subset(self, rows: Tensor, labels: Tensor | None = None) -> Split:
        """Return some samples as a split that shares the stored inputs.

        Args:
            rows: Positions in the split, int64.
            labels: Of these samples; None for those they have.
        """
        stored_rows = rows if self.rows is None else self.rows[rows]
        return self._copy(self.labels[rows] if labels is None else labels, stored_rows)

    def relabelled(self, labels: Tensor) -> Split:
        """Return the same inputs with other labels."""
        return self._copy(labels, self.rows)

    def changed(self, change: Change) -> Split:
        """Return the same samples with a further change of their inputs."""
        return Split(
            self.stored,
            self.labels.clone(),
            rows=self.rows,
            scaling=self.scaling,
            changes=(*self.changes, change),
            shared=True,
        )

    def digest(self, known: dict[int, bytes]) -> bytes:
        """Return a hash of the samples.

        Args:
            known: Hashes of stored inputs by `id`, filled as they are computed.
        """
        if id(self.stored) not in known:
            known[id(self.stored)] = hash_of(self.stored)
        found = hashlib.sha256(known[id(self.stored)])
        found.update(hash_of(self.labels))
        if self.rows is not None:
            found.update(hash_of(self.rows))
        if self.scaling is not None:
            found.update(self.scaling.identity())
        for change in self.changes:
            found.update(change.identity())
        return found.digest()

    @property
    def _is_plain(self) -> bool:
        return (
            self.rows is None
            and self.scaling is None
            and not self.changes
            and as_numbers(self.stored[:0]).dtype == self.stored.dtype
        )

    @property
    def _size(self) -> int:
        """Bytes of all computed inputs, without changes of their shape."""
        return len(self) * self.stored[:1].numel() * 4

    def _computed(self, rows: Tensor | slice) -> Tensor:
        if self.rows is not None:
            rows = self.rows[rows]
        return self._finished(as_numbers(self.stored[rows]))

    def _finished(self, inputs: Tensor) -> Tensor:
        """Return inputs with their normalisation and changes."""
        if self.scaling is not None:
            inputs = self.scaling(inputs)
        for change in self.changes:
            inputs = change(inputs)
        return inputs

    def _copy(self, labels: Tensor, rows: Tensor | None) -> Split:
        return Split(
            self.stored,
            labels,
            rows=rows,
            scaling=self.scaling,
            changes=self.changes,
            shared=True,
        )


def joined(splits: Sequence[Split]) -> Split:
    """Return all samples of several splits as one; inputs that are stored once stay so."""
    labels = torch.cat([split.labels for split in splits])
    first = splits[0]
    alike = all(
        split.stored is first.stored
        and split.rows is not None
        and split.scaling is first.scaling
        and split.changes == first.changes
        for split in splits
    )
    if alike:
        rows = torch.cat([split.rows for split in splits if split.rows is not None])
        return first.relabelled(labels)._copy(labels, rows)
    return Split(torch.cat([split.inputs for split in splits]), labels)


def hash_of(tensor: Tensor) -> bytes:
    """Return a hash of a tensor on the CPU: its type, shape and content."""
    found = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    for part in _parts(tensor):
        found.update(part.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.digest()


def _parts(tensor: Tensor) -> Iterable[Tensor]:
    if tensor.ndim == 0 or not len(tensor):
        return [tensor.reshape(-1)]
    return torch.split(tensor, max(1, SMALL // max(1, tensor[:1].nbytes)))
