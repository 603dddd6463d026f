"""Labels: which channel every entry of a tensor belongs to.

Labels are an integer array with as many axes as the tensor. Along an axis where the channel
changes it has the tensor's length, along every other axis the length 1, as in broadcasting: the
labels of a batch of images with 3 channels are [[[[0]], [[1]], [[2]]]], of shape (1, 3, 1, 1).
An operation that only moves entries is followed by doing the same to the labels, whatever it is:

    >>> import numpy as np
    >>> images = along(np.arange(2), axis=1, dimensions=4)         # of a tensor [N, 2, 3, 3]
    >>> reshaped(images, (5, 2, 3, 3), (5, 18)).tolist()           # flatten(1)
    [[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
    >>> queries = along(np.arange(6), axis=2, dimensions=3)        # of a tensor [N, tokens, 6]
    >>> heads = reshaped(queries, (5, 7, 6), (5, 7, 2, 3))         # two heads of three channels
    >>> heads.shape, heads[0, 0].tolist()
    ((1, 1, 2, 3), [[0, 1, 2], [3, 4, 5]])

Channels may lie along several axes at once, as the heads do; nothing has to be decided there. An
operation that runs over one of these axes, such as the matrix product of queries and keys, ties
the channels along it together:

    >>> scores, mapping = merged(heads, axes=(3,))
    >>> scores.shape, mapping.inputs.tolist(), mapping.outputs.tolist()
    ((1, 1, 2, 1), [0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1])

What is left are two new channels, one for each head, and the mapping says which of the old ones
each of them stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
"""Channel of every entry, −1 for an entry of none; length 1 along axes where it does not change."""

Indices = NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class IndexMapping:
    """Pairs of channels that belong together, on the two sides of a link.

    Attributes:
        inputs: [n] channels of what is read.
        outputs: [n] channels of what reads.
    """

    inputs: Indices
    outputs: Indices

    @classmethod
    def between(cls, inputs: Labels, outputs: Labels) -> "IndexMapping":
        """Pair the labels of two tensors entry by entry, leaving out entries of no channel."""
        first, second = (array.ravel() for array in np.broadcast_arrays(inputs, outputs))
        held = (first >= 0) & (second >= 0)
        first, second = first[held], second[held]
        step = int(second.max(initial=0)) + 1
        codes = distinct(first * step + second)
        return cls(codes // step, codes % step)

    def then(self, following: "IndexMapping | None") -> "IndexMapping":
        """Return this mapping with another one behind it.

        Where several channels meet in one that several others follow from, each is paired with the
        first of the others, and the first with each: all of them are bound together by that, and
        there is no pair of every one with every other.
        """
        if following is None:
            return self
        middle = distinct(self.outputs[np.isin(self.outputs, following.inputs)])
        before, firsts = _sorted_by(self.outputs, self.inputs, middle)
        behind, follows = _sorted_by(following.inputs, following.outputs, middle)
        first_of = firsts[np.searchsorted(before, middle)]
        follow_of = follows[np.searchsorted(behind, middle)]
        inputs = np.concatenate([firsts, first_of[np.searchsorted(middle, behind)]])
        outputs = np.concatenate([follow_of[np.searchsorted(middle, before)], follows])
        return IndexMapping(inputs, outputs)


def _sorted_by(keys: Indices, values: Indices, wanted: Indices) -> tuple[Indices, Indices]:
    """Return those pairs whose keys are wanted, in the order of the keys."""
    kept = np.isin(keys, wanted)
    order = np.argsort(keys[kept], kind="stable")
    return keys[kept][order], values[kept][order]


def distinct(values: Indices) -> Indices:
    """Return the values in rising order, each once.

    Most are in order already, and sorting the others takes a tenth of the time of `np.unique`.
    """
    if (values[1:] > values[:-1]).all():
        return values
    in_order = np.sort(values)
    rising: Indices = in_order[np.append(True, in_order[1:] != in_order[:-1])]
    return rising


def along(channels: Indices, axis: int, dimensions: int) -> Labels:
    """Return the labels of a tensor whose channels lie along one axis."""
    shape = [1] * dimensions
    shape[axis] = len(channels)
    return channels.reshape(shape)


def varying(labels: Labels) -> tuple[int, ...]:
    """Return the axes along which the channel changes."""
    return tuple(axis for axis, length in enumerate(labels.shape) if length > 1)


def squeezed(labels: Labels) -> Labels:
    """Give every axis along which the channel does not change the length 1."""
    for axis in varying(labels):
        first = labels.take([0], axis)
        if (labels == first).all():
            labels = first
    return labels


def reshaped(labels: Labels, before: Shape, after: Shape) -> Labels | None:
    """Follow a reshape; None for tensors without entries.

    Axes before and after are matched in blocks of equal size, and only the blocks that hold
    channels are written out: (8, 2, 3, 3) -> (8, 18) has the blocks 8 -> 8 and 2·3·3 -> 18.
    """
    if 0 in before or 0 in after:
        return None
    expanded, result = list(labels.shape), [1] * len(after)
    for inputs, outputs in _blocks(before, after):
        if any(labels.shape[axis] > 1 for axis in inputs):
            for axis in inputs:
                expanded[axis] = before[axis]
            for axis in outputs:
                result[axis] = after[axis]
    return squeezed(np.broadcast_to(labels, expanded).reshape(result))


def _blocks(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Match the axes of two shapes of equal size: the finest blocks of equal product."""
    blocks = []
    i = j = 0
    while i < len(before) or j < len(after):
        inputs: list[int] = []
        outputs: list[int] = []
        left = right = 1
        while True:
            if left == right and inputs and outputs:
                break
            if left <= right and i < len(before):
                left *= before[i]
                inputs.append(i)
                i += 1
            elif j < len(after):
                right *= after[j]
                outputs.append(j)
                j += 1
            else:
                break
        blocks.append((inputs, outputs))
    return blocks


def merged(labels: Labels, axes: Sequence[int]) -> tuple[Labels, IndexMapping]:
    """Follow an operation that runs over some axes, which stay with the length 1.

    Returns:
        The labels of new channels, one for every set of old ones that is run over at once, and
        which old channels are in which set.
    """
    moved = np.moveaxis(labels, axes, range(-len(axes), 0))
    kept = moved.shape[: moved.ndim - len(axes)]
    rows = moved.reshape(int(np.prod(kept, dtype=np.int64)), -1)
    sets, firsts = _numbered(rows)
    mapping = IndexMapping.between(rows[firsts], np.arange(len(firsts))[:, None])
    whole = sets.reshape(*kept, *(1,) * len(axes))
    return squeezed(np.moveaxis(whole, range(-len(axes), 0), axes)), mapping


def _numbered(rows: Labels) -> tuple[Indices, Indices]:
    """Return a number for each row, equal for equal rows, and the first row of each number.

    Numbers follow the order in which rows come. Where rows that begin alike are alike, which nearly
    all are, their first entries tell them apart, and no rows are sorted.
    """
    places = np.arange(len(rows), dtype=np.int64)
    if (rows[1:, :1] > rows[:-1, :1]).all():
        return places, places
    firsts, number = np.unique(rows[:, 0], return_index=True, return_inverse=True)[1:]
    repeats = places[firsts[number] != places]
    if not np.array_equal(rows[repeats], rows[firsts[number[repeats]]]):
        number = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        firsts, number = np.unique(number, return_index=True, return_inverse=True)[1:]
    order = np.argsort(firsts)
    rank = np.empty(len(firsts), dtype=np.int64)
    rank[order] = np.arange(len(firsts))
    return rank[number.reshape(-1)], firsts[order]


def tied(labels: Labels, axes: Sequence[int]) -> IndexMapping:
    """Follow an operation that gives every channel back, but mixes those along some axes."""
    first = labels[
        tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(labels.ndim))
    ]
    mixed = IndexMapping.between(labels, first)
    same = distinct(labels[labels >= 0])
    return IndexMapping(np.concatenate([same, mixed.inputs]), np.concatenate([same, mixed.outputs]))
