"""The penalty's gradient on a CPU, by chunks of the parameters that a cache holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

CHUNK = 2**18
"""Most entries of a chunk, for each thread: 1 MiB in float32."""

SMALL = 2**14
"""Parameters of at most so many entries share chunks: calls cost more than what they do."""

Cut = tuple[tuple[int, ...], slice | None]
"""Numbers of parameters, and which entries of the one; None where all of them are meant."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some entries of a large parameter, or all of one or of several small ones.

    Attributes:
        numbers: Which parameters.
        entries: Which of the parameter's entries, flattened; None for all, in their own shape.
        omegas: Ω of them, by parameter.
        omega: The same end to end; a copy where there are several.
        anchor: θ* end to end, alike.
        deltas: Room for θ − θ*, by parameter.
        delta: The same room end to end; chunks share it.
        value: Where Σ Ω (θ − θ*)² is left.
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
        """`gradient += factor · Ω (θ − θ*)` where there is one; leaves Σ Ω (θ − θ*)² in `value`.

        Each entry is read once from memory, and then from the cache.
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
        return tensor if self.entries is None else tensor.view(-1)[self.entries]


@dataclass(frozen=True, eq=False)
class Chunks:
    """Everything, chunk by chunk.

    Attributes:
        chunks: The chunks.
        values: Where each leaves its share of the penalty.
        cut: Numbers of the parameters that are cut up: only while they are contiguous.
    """

    chunks: tuple[Chunk, ...]
    values: Tensor
    cut: tuple[int, ...]

    def fit(self, parameters: list[Tensor], gradients: list[Tensor | None]) -> bool:
        """Whether what is cut up is laid out in order."""
        return all(
            parameters[n].is_contiguous() and ((g := gradients[n]) is None or g.is_contiguous())
            for n in self.cut
        )

    def add_gradient_(
        self, parameters: list[Tensor], gradients: list[Tensor | None], factor: float
    ) -> Tensor:
        """`gradient += factor · Ω (θ − θ*)` where there is one; Σ Ω (θ − θ*)² of everything."""
        for chunk in self.chunks:
            chunk.add_gradient_(parameters, gradients, factor)
        return self.values.sum()


def divide(omegas: list[Tensor], anchors: list[Tensor]) -> Chunks:
    """The chunks of parameters with these Ω and θ*, all contiguous, of one device and dtype."""
    cuts = list(_cuts([omega.numel() for omega in omegas]))
    sizes = [_size(omegas, cut) for cut in cuts]
    room, values = omegas[0].new_empty(max(sizes, default=0)), omegas[0].new_zeros(len(cuts))
    chunks = []
    for (numbers, entries), size, value in zip(cuts, sizes, values, strict=True):
        own = [_flat(omegas[n], entries) for n in numbers]
        start = [_flat(anchors[n], entries) for n in numbers]
        deltas = torch.split(room[:size], [len(omega) for omega in own])
        shaped = [omegas[n] for n in numbers] if entries is None else own
        chunks.append(
            Chunk(
                numbers, entries, shaped, _end_to_end(own), _end_to_end(start),
                [d.view_as(o) for d, o in zip(deltas, shaped, strict=True)], room[:size], value,
            )
        )  # fmt: skip
    cut = dict.fromkeys(numbers[0] for numbers, entries in cuts if entries is not None)
    return Chunks(tuple(chunks), values, tuple(cut))


def _cuts(sizes: list[int]) -> Iterator[Cut]:
    """Large parameters are cut, small ones stand together; empty ones are left out."""
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
    numbers, entries = cut
    return sum(len(_flat(omegas[n], entries)) for n in numbers)


def _flat(tensor: Tensor, entries: slice | None) -> Tensor:
    return tensor.view(-1) if entries is None else tensor.view(-1)[entries]


def _end_to_end(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
