"""Ties: sides of layers that move together because they share an axis of one tensor.

A worked example. The head reads with the table of the embedding, so that its columns are the
features of the embedding, whatever lies between the two:

    head.weight = embed.weight

    embed, out    axis 1 of the table
    head, in      axis 1 of the table        tied: channel i of one is channel i of the other
    head, out     axis 0 of the table        tied to nothing: words are not channels
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from growmas.structure.analysis.functional import FunctionalLayer
from growmas.structure.layers.axes import Side, axes_of

ModuleSide = tuple[nn.Module, Side]


def tied_sides(modules: Iterable[nn.Module]) -> dict[ModuleSide, tuple[ModuleSide, ...]]:
    """Return side of a module -> the other sides whose channels are the same entries of a tensor.

    Sides of different lengths are left out: they share a tensor in another way.
    """
    held: dict[Any, dict[ModuleSide, None]] = {}
    for module in modules:
        for side, key in _keys(module):
            held.setdefault(key, {})[module, side] = None
    found: dict[ModuleSide, dict[ModuleSide, None]] = {}
    for sides in held.values():
        for at in sides if len(sides) > 1 else ():
            found.setdefault(at, {}).update(dict.fromkeys(other for other in sides if other != at))
    return {at: tuple(others) for at, others in found.items()}


def _keys(module: nn.Module) -> Iterator[tuple[Side, Any]]:
    """Give every side with what stands for an axis of a tensor and for the way it is cut."""
    axes = axes_of(module)
    if axes is None:
        return
    if isinstance(module, FunctionalLayer):
        for piece in module.pieces:
            length = len(piece.channels)
            if (piece.channels == np.arange(length)).all():
                yield piece.side, (id(piece.tensor), piece.dim, 1, 1, length)
            else:
                yield piece.side, (id(piece.tensor), piece.dim, piece.channels.tobytes())
        return
    tensors = _tensors(module)
    for side in ("out", "in"):
        for axis in axes.side(side):
            tensor = tensors.get(axis.tensor)
            if tensor is not None:
                length = axes.channels(module, side)
                yield side, (id(tensor), axis.dim, axis.blocks, axis.shared, length)


def _tensors(module: nn.Module) -> Mapping[str, Tensor | None]:
    return {**module._parameters, **module._buffers}
