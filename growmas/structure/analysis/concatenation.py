"""Concatenation along the channels: those of all inputs get new numbers, one after the other.

    cat([a(x), b(x), zeros], 1)      a: 0 1 2      b: 0 1      of three, two and two channels
                                     0 1 2 3 4 −1 −1

What is joined with parameters alone, as the biases of queries, keys and values, is numbered alike.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from growmas.structure.analysis.labels import IndexMapping, Labels, distinct
from growmas.structure.analysis.links import Link, Operand
from growmas.structure.analysis.propagation import output_shape


def concatenated(
    function: Any,
    axis: int,
    operands: Mapping[int, Operand],
    constants: Mapping[int, Tensor],
    alone: bool,
) -> tuple[Labels, dict[int, Link]] | None:
    """Return the labels of a concatenation, and the links from its inputs by number.

    Args:
        function: The operation's node in the autograd graph.
        axis: The axis along which it joins.
        operands: The inputs that carry gradients, by number.
        constants: Others whose length is known, by number.
        alone: True if all inputs are parameters, buffers and constants.

    Returns:
        None where the lengths of several inputs are not known.
    """
    shape = output_shape(function)
    whole, count = shape[axis], len(function.next_functions)
    lengths = {index: tensor.shape[axis] for index, tensor in constants.items()}
    lengths |= {index: operand.shape[axis] for index, operand in operands.items()}
    known = sum(lengths.values())
    if count - len(lengths) > 1 and known < whole:
        return None
    links: dict[int, Link] = {}
    pieces, first = [], 0
    for index in range(count):
        operand = operands.get(index)
        followed = operand is not None and (alone or not operand.unwrapped)
        labels: Labels | str = operand.labels if operand is not None and followed else ""
        if isinstance(labels, str):
            piece = np.full([1] * len(shape), -1, dtype=np.int64)
            link = Link(down=operand.unwrapped or labels if operand else "")
        else:
            piece, numbers = labels + first, distinct(labels[labels >= 0])
            link = Link((IndexMapping(numbers, numbers + first),))
            first += int(labels.max(initial=-1)) + 1
        if operand is not None:
            links[index] = link
        pieces.append(_stretched(piece, axis, lengths.get(index, whole - known)))
    widest = np.max([piece.shape for piece in pieces], axis=0)
    wide = [
        np.broadcast_to(p, [p.shape[a] if a == axis else n for a, n in enumerate(widest)])
        for p in pieces
    ]
    return np.concatenate(wide, axis), links


def _stretched(labels: Labels, axis: int, length: int) -> Labels:
    """Write labels out along one axis."""
    shape = list(labels.shape)
    shape[axis] = length
    return np.broadcast_to(labels, shape)
