"""Chunks of the parameters that fit a CPU cache, by which the penalty's gradient is computed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

CHUNK = 2**18
"""Largest number of entries of a chunk for each thread: 1 MiB in float32."""

SMALL = 2**14
"""Largest parameter that shares a chunk with others: below it, a call costs more than its work."""

Cut = tuple[tuple[int, ...], slice | None]
"""Numbers of parameters; and for a single one the slice of its entries, None for all of them."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some entries of a large parameter, or all of one or of several small ones.

    Attributes:
        numbers: Numbers of the parameters.
        entries: Slice of the flattened entries of the parameter; None for all, in their own shape.
        omegas: Ω of the entries, one tensor per parameter.
        omega: The same in one flat tensor; a copy if there are several parameters.
        anchor: θ* of the entries in one flat tensor, also a copy if there are several.
        deltas: Workspace for θ − θ*, one view per parameter.
        delta: The same workspace as one flat tensor; all chunks share it.
        value: 0-d tensor that receives Σ Ω (θ − θ*)².
    """

    numbers: tuple[int, ...]
    entries: slice | None
    omegas: list[Tensor]
    omega: Tensor
    anchor: Tensor
    deltas: list[Tensor]
    delta: Tensor
    value: Tensor

    def add_gradient_(
        self, parameters: list[Tensor], gradients: list[Tensor | None], factor: float
    ) -> None:
        """Add factor · Ω (θ − θ*) to each gradient; leave Σ Ω (θ − θ*)² in `value`.

        Each entry is read from memory once, then from the cache.
        """
        thetas = [self._own(parameters[n]) for n in self.numbers]
        if len(thetas) == 1:
            torch.sub(thetas[0], self.anchor.view_as(thetas[0]), out=self.deltas[0])
        else:
            torch._foreach_copy_(self.deltas, thetas)
            self.delta.sub_(self.anchor)
        found = [(i, gradients[n]) for i, n in enumerate(self.numbers)]
        live = [(i, self._own(gradient)) for i, gradient in found if gradient is not None]
        if live:
            torch._foreach_addcmul_(
                [slope for _, slope in live],
                [self.deltas[i] for i, _ in live],
                [self.omegas[i] for i, _ in live],
                value=factor,
            )
        self.delta.mul_(self.delta)
        torch.dot(self.delta, self.omega, out=self.value)

    def _own(self, tensor: Tensor) -> Tensor:
        """Return the entries of this chunk."""
        return tensor if self.entries is None else tensor.view(-1)[self.entries]


@dataclass(frozen=True, eq=False)
class Chunks:
    """All entries of all parameters, chunk by chunk.

    Attributes:
        chunks: The chunks.
        values: [chunks] the share of the penalty of each.
        cut: Numbers of the parameters that are divided over several chunks; they must stay
            contiguous.
    """

    chunks: tuple[Chunk, ...]
    values: Tensor
    cut: tuple[int, ...]

    def fit(self, parameters: list[Tensor], gradients: list[Tensor | None]) -> bool:
        """Return True if divided parameters and their gradients are contiguous."""
        return all(
            parameters[n].is_contiguous() and ((g := gradients[n]) is None or g.is_contiguous())
            for n in self.cut
        )

    def add_gradient_(
        self, parameters: list[Tensor], gradients: list[Tensor | None], factor: float
    ) -> Tensor:
        """Add factor · Ω (θ − θ*) to each gradient; return Σ Ω (θ − θ*)² of all entries."""
        for chunk in self.chunks:
            chunk.add_gradient_(parameters, gradients, factor)
        return self.values.sum()


def divide(omegas: list[Tensor], anchors: list[Tensor]) -> Chunks:
    """Return the chunks of parameters with these Ω and θ*.

    All tensors must be contiguous and of one device and dtype.
    """
    cuts = list(_cuts([omega.numel() for omega in omegas]))
    sizes = [_size(omegas, cut) for cut in cuts]
    workspace, values = omegas[0].new_empty(max(sizes, default=0)), omegas[0].new_zeros(len(cuts))
    chunks = []
    for (numbers, entries), size, value in zip(cuts, sizes, values, strict=True):
        own = [_flat(omegas[n], entries) for n in numbers]
        start = [_flat(anchors[n], entries) for n in numbers]
        deltas = torch.split(workspace[:size], [len(omega) for omega in own])
        shaped = [omegas[n] for n in numbers] if entries is None else own
        chunks.append(
            Chunk(
                numbers, entries, shaped, _joined(own), _joined(start),
                [d.view_as(o) for d, o in zip(deltas, shaped, strict=True)],
                workspace[:size], value,
            )
        )  # fmt: skip
    cut = dict.fromkeys(numbers[0] for numbers, entries in cuts if entries is not None)
    return Chunks(tuple(chunks), values, tuple(cut))


def _cuts(sizes: list[int]) -> Iterator[Cut]:
    """Divide large parameters, put small ones together, and leave out empty ones."""
    most = CHUNK * torch.get_num_threads()
    shared: list[int] = []
    for number, size in enumerate(sizes):
        if size > most:
            bounds = [*range(0, size, most), size]
            yield from (((number,), slice(*bound)) for bound in pairwise(bounds))
        elif size > SMALL:
            yield (number,), None
        elif size:
            if sum(sizes[n] for n in shared) + size > most:
                yield tuple(shared), None
                shared = []
            shared.append(number)
    if shared:
        yield tuple(shared), None


def _size(omegas: list[Tensor], cut: Cut) -> int:
    """Return the number of entries of a chunk."""
    numbers, entries = cut
    return sum(len(_flat(omegas[n], entries)) for n in numbers)


def _flat(tensor: Tensor, entries: slice | None) -> Tensor:
    """Return these entries of a tensor, flattened."""
    return tensor.view(-1) if entries is None else tensor.view(-1)[entries]


def _joined(pieces: list[Tensor]) -> Tensor:
    """Return flat tensors as one; a single one is not copied."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
