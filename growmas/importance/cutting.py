"""Cutting: taking single samples out of a batch.

A worked example: `{"ids": [4, 7], "mask": [4, 7], "positions": [7], "mode": "mean"}` and an output
of 4 rows. `ids` and `mask` have 4 samples and are cut; `positions` and `mode` are shared by all.

With 7 samples of 7 tokens the shapes no longer tell that `positions` is shared. Then the first and
the last sample go through the model alone, cut in either way, and the way that gives the same
outputs as in the batch is taken. A batch that cannot be cut, such as a graph batch of nodes, edges
and owners, is measured as a whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from growmas.batches import LABEL_KEYS, batch_size
from growmas.errors import DataError, ImportanceError
from growmas.importance.alignment_rules import tensors_in
from growmas.importance.measurement import Measurement
from growmas.importance.ragged import Graphs, Ragged, Role, edges_in, is_graphs, roles_of
from growmas.importance.recording import Recording

MOST_READINGS = 16
"""Ways to read the shapes of a ragged batch that are tried."""

Entry = Tensor | PackedSequence | list[str] | Ragged | Graphs
"""A part of a batch that has samples."""


@dataclass(frozen=True)
class Place:
    """The place of an entry in a batch, by position among the entries."""

    position: int


@dataclass(frozen=True, eq=False)
class Cutting:
    """A batch taken apart into what has samples and what is shared.

    Attributes:
        samples: N.
        template: The batch with a `Place` for each entry.
        entries: The parts that have samples.
    """

    samples: int
    template: Any
    entries: list[Entry]

    @property
    def mappable(self) -> bool:
        """True if all entries are tensors, so that `torch.func` can map over them."""
        return all(isinstance(entry, Tensor) for entry in self.entries)

    def part(self, index: slice) -> "Cutting":
        """Return the cutting of some samples."""
        entries = [_part(entry, index) for entry in self.entries]
        return Cutting(len(range(self.samples)[index]), self.template, entries)

    def take(self, index: slice) -> Any:
        """Return a batch of some samples."""
        entries = self.part(index).entries
        return filled(
            self.template, [e.values if isinstance(e, Ragged | Graphs) else e for e in entries]
        )


def find_cutting(measurement: Measurement, batch: Any, recording: Recording) -> Cutting | None:
    """Find the way to cut a batch; None if it cannot be cut.

    Args:
        measurement: Model, forward and objective.
        batch: A batch.
        recording: A forward pass of the whole batch.

    Raises:
        ImportanceError: All tensors have the samples first, and a sample alone does not go through
            the model.
    """
    values = recording.values
    owner = measurement.owners(batch)
    if owner is not None:
        return _cut_by_owner(measurement, batch, owner, values)
    candidates = list(_candidates(batch, len(values)))
    plain = batch_size(batch) == len(values)
    if not candidates or (plain and recording.independent and len(candidates) == 1):
        return candidates[0] if candidates else None
    ran, failed = [], None
    for cutting in candidates:
        try:
            if _fits(measurement, cutting, values):
                return cutting
            ran.append(cutting)
        except ImportanceError as error:
            failed = error
    if not ran and plain and failed is not None:
        raise failed  # every tensor has the samples first, and yet they do not go alone
    return ran[0] if ran else None  # samples that influence each other are refused later


def _cut_by_owner(
    measurement: Measurement, batch: Any, owner: Tensor, values: Tensor
) -> Cutting | None:
    """Return the cutting of a ragged batch; None if it is not found.

    Every way to read the shapes is tried. If none gives alone what the samples give in the batch,
    although every tensor has been read, then the samples influence each other, which is refused
    later.
    """
    tensors = tensors_in(batch)
    edges = edges_in(tensors, len(owner)).to(owner.device)
    roles = [roles_of(tensor, owner, edges, len(values)) for tensor in tensors]
    ran = None
    for chosen in islice(product(*(found or (None,) for found in roles)), MOST_READINGS):
        entries: list[Entry] = []
        template = _ragged_template(batch, owner, len(values), edges, iter(chosen), entries)
        cutting = Cutting(len(values), template, entries)
        try:
            if entries and _fits(measurement, cutting, values):
                return cutting
            ran = cutting
        except (ImportanceError, IndexError, RuntimeError, ValueError, TypeError):
            continue
    return ran if ran is not None and ran.entries and all(roles) else None


def _ragged_template(
    batch: Any,
    owner: Tensor,
    samples: int,
    edges: Tensor,
    roles: Iterator[Role | None],
    entries: list[Entry],
) -> Any:
    """Replace the parts of a ragged batch that have samples by places."""
    entry: Entry | None = None
    if isinstance(batch, Tensor):
        role = next(roles)
        if role is not None:
            entry = batch if role == "samples" else Ragged(batch, role, owner, samples, edges)
    elif is_graphs(batch):
        entry = Graphs(batch, samples)
    if entry is not None:
        entries.append(entry)
        return Place(len(entries) - 1)
    rest = (owner, samples, edges, roles, entries)
    if isinstance(batch, Mapping):
        return {key: _ragged_template(value, *rest) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [_ragged_template(value, *rest) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def some_of(measurement: Measurement, cutting: Cutting, index: slice) -> Tensor:
    """Return the objective of some samples without the others, [n, K], with its graph.

    Raises:
        ImportanceError: These samples do not go through the model without the others.
    """
    expected = len(range(cutting.samples)[index])
    try:
        values = measurement.scalars(cutting.take(index), "a sample by itself")
    except torch.OutOfMemoryError:
        raise
    except (DataError, RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        raise ImportanceError(
            f"a sample by itself does not go through the model ({error}): importance is defined "
            "per sample. Look for a BatchNorm without running statistics, or inputs whose first "
            "dimension is not the samples"
        ) from error
    if len(values) != expected:
        raise ImportanceError(
            f"{expected} of {cutting.samples} samples by themselves give an output of "
            f"{len(values)} rows: the output must have one row for each sample"
        )
    return values


def _fits(measurement: Measurement, cutting: Cutting, values: Tensor) -> bool:
    """Return True if the first and the last sample alone give what they give in the batch."""
    found = values.detach().clone()
    for n in {0, cutting.samples - 1}:
        found[n] = some_of(measurement, cutting, slice(n, n + 1))[0].detach()
    return measurement.same_values(found, values)


def _candidates(batch: Any, samples: int) -> Iterator[Cutting]:
    """Yield all entries cut, and vectors shared if there are others."""
    entries: list[Entry] = []
    yield_all = Cutting(samples, _template(batch, samples, entries, vectors=True), entries)
    if not entries:
        return
    yield yield_all
    if not isinstance(batch, Mapping):
        return
    fewer: list[Entry] = []
    template = _template(batch, samples, fewer, vectors=False)
    if 0 < len(fewer) < len(entries):
        yield Cutting(samples, template, fewer)


def _template(batch: Any, samples: int, entries: list[Entry], *, vectors: bool) -> Any:
    """Replace the entries that have samples by places, and append them to `entries`."""
    if _has_samples(batch, samples, vectors):
        entries.append(batch)
        return Place(len(entries) - 1)
    if isinstance(batch, PackedSequence):
        return batch
    if isinstance(batch, Mapping):
        return {
            key: _template(value, samples, entries, vectors=vectors or key in LABEL_KEYS)
            for key, value in batch.items()
        }
    if isinstance(batch, tuple | list):
        parts = [_template(value, samples, entries, vectors=vectors) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def _has_samples(value: Any, samples: int, vectors: bool) -> bool:
    if isinstance(value, Tensor):
        return value.dim() > (0 if vectors else 1) and len(value) == samples
    if isinstance(value, PackedSequence):
        return int(value.batch_sizes[0]) == samples
    words = type(value) is list and len(value) == samples and samples > 0
    return words and all(type(entry) is str for entry in value)


def filled(template: Any, entries: list[Any]) -> Any:
    """Put entries in their places."""
    if isinstance(template, Place):
        return entries[template.position]
    if isinstance(template, PackedSequence):
        return template
    if isinstance(template, dict):
        return {key: filled(value, entries) for key, value in template.items()}
    if isinstance(template, tuple | list):
        parts = [filled(value, entries) for value in template]
        return type(template)(*parts) if hasattr(template, "_fields") else type(template)(parts)
    return template


def _part(entry: Entry, index: slice) -> Entry:
    if isinstance(entry, Ragged | Graphs):
        return entry.part(index)
    if isinstance(entry, PackedSequence):
        return pack_sequence(unpack_sequence(entry)[index], enforce_sorted=False)
    return entry[index]
