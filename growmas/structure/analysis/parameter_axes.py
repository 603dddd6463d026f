"""Axes of parameters, followed through what cuts, turns and joins them before they are used.

A worked example: the first two of three rows of a weight, transposed as `F.linear` does.

    >>> import torch
    >>> from torch import nn
    >>> weight = nn.Parameter(torch.rand(3, 4))
    >>> product = torch.rand(5, 4, requires_grad=True) @ weight[:2].T
    >>> for axis in axes_followed(product.grad_fn, 1, 2, {}):
    ...     print(axis.dim, axis.axis, axis.shape, axis.channels.tolist())
    0 1 (4, 2) [0, 1, -1]
    1 0 (4, 2) [0, 1, 2, 3]

Axis 0 of the weight lies along axis 1 of what is multiplied, and its row 2 is not used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from growmas.structure.analysis.labels import Indices, Labels, Shape, along, varying
from growmas.structure.analysis.outcomes import Propagation
from growmas.structure.analysis.propagation import (
    axis_argument,
    operation,
    output_labels,
    output_shape,
    propagate,
)

_FOLLOWED = frozenset({
    "Alias", "Clone", "Div", "Expand", "Flip", "Mul", "Neg", "Permute", "ReshapeAlias", "Select",
    "Slice", "Split", "SplitWithSizes", "Squeeze", "T", "ToCopy", "Transpose", "Unbind",
    "UnsafeSplit", "UnsafeView", "Unsqueeze", "View",
})  # fmt: skip
"""Operations on a single tensor that keep zeros and treat its entries alike."""

Constants = Mapping[Any, Mapping[int, Tensor]]
"""Function of a concatenation -> the buffers that it reads, by number."""


@dataclass(frozen=True, eq=False)
class ParameterAxis:
    """An axis of a parameter, and where it lies in the tensor that is made of it.

    Attributes:
        tensor: The parameter.
        dim: The axis of the parameter.
        axis: The axis of what is made of it.
        shape: The shape of what is made of it.
        channels: For every entry along `dim` its place along `axis`, −1 for none.
    """

    tensor: Tensor
    dim: int
    axis: int
    shape: Shape
    channels: Indices


@dataclass(frozen=True, eq=False)
class _Followed:
    """The coordinates of a parameter along one of its axes, as labels of what is made of it."""

    tensor: Tensor
    dim: int
    labels: Labels


def axes_followed(
    function: Any, index: int, dimensions: int | None, constants: Constants
) -> list[ParameterAxis] | None:
    """Return the axes of the parameters that an input of an operation is made of.

    Args:
        function: The operation's node in the autograd graph.
        index: Which of its inputs.
        dimensions: The number of axes that the input must have; None for any.
        constants: The buffers that concatenations read.

    Returns:
        Axes that can be told apart; none if there is no such input; None if it is made of
        something else, or in a way that cannot be followed.
    """
    given = function.next_functions[index] if index < len(function.next_functions) else (None, 0)
    if given[0] is None:
        return []
    shape = _shape(*given)
    found = _followed(given[0], given[1], constants)
    if found is None or (dimensions is not None and len(shape) != dimensions):
        return None
    axes = []
    for each in found:
        places = varying(each.labels)
        if not places:
            continue
        labels = each.labels.ravel()
        held = labels[labels >= 0]
        if len(places) > 1 or len(np.unique(held)) < len(held):
            return None
        channels = np.full(each.tensor.shape[each.dim], -1, dtype=np.int64)
        channels[held] = np.flatnonzero(labels >= 0)
        axes.append(ParameterAxis(each.tensor, each.dim, places[0], shape, channels))
    return axes


def _shape(function: Any, number: int) -> Shape:
    leaf: Tensor | None = getattr(function, "variable", None)
    return tuple(leaf.shape) if leaf is not None else output_shape(function, number)


def _followed(function: Any, number: int, constants: Constants) -> list[_Followed] | None:
    """Follow all axes of all parameters behind a function; None where that is not possible."""
    leaf: Tensor | None = getattr(function, "variable", None)
    if leaf is not None:
        return list(_axes_of_leaf(leaf))
    if operation(function) == "Cat":
        return _joined(function, constants)
    read = [(i, given) for i, given in enumerate(function.next_functions) if given[0] is not None]
    if operation(function) not in _FOLLOWED or len(read) != 1:
        return None
    (index, given) = read[0]
    below = _followed(given[0], given[1], constants)
    if below is None:
        return None
    found = []
    for each in below:
        step = propagate(function, index, each.labels, _shape(*given))
        if not isinstance(step, Propagation):
            return None
        labels = output_labels(function, number, step.labels)
        found.append(_Followed(each.tensor, each.dim, labels))
    return found


def _axes_of_leaf(leaf: Tensor) -> Iterator[_Followed]:
    for dim, length in enumerate(leaf.shape):
        labels = along(np.arange(length, dtype=np.int64), dim, leaf.dim())
        yield _Followed(leaf, dim, labels)


def _joined(function: Any, constants: Constants) -> list[_Followed] | None:
    """Follow a concatenation of parameters, buffers, and at most one other constant."""
    shape = output_shape(function)
    axis = axis_argument(function, "_saved_dim", len(shape))
    parts: list[list[_Followed] | None] = []
    lengths: list[int | None] = []
    for index, given in enumerate(function.next_functions):
        buffer = constants.get(function, {}).get(index)
        if given[0] is not None:
            part = _followed(given[0], given[1], constants)
            if part is None:
                return None
            parts.append(part)
            lengths.append(_shape(*given)[axis])
        else:
            parts.append(list(_axes_of_leaf(buffer)) if buffer is not None else [])
            lengths.append(buffer.shape[axis] if buffer is not None else None)
    if lengths.count(None) > 1:
        return None
    gap = shape[axis] - sum(length or 0 for length in lengths)
    found, first = [], 0
    for part, given_length in zip(parts, lengths, strict=True):
        length = gap if given_length is None else given_length
        for each in part or ():
            labels = each.labels
            if labels.shape[axis] == length and each.labels.shape[axis] > 1:
                widths = [(0, 0)] * labels.ndim
                widths[axis] = (first, shape[axis] - first - length)
                labels = np.pad(labels, widths, constant_values=-1)
            found.append(_Followed(each.tensor, each.dim, labels))
        first += length
    return found
