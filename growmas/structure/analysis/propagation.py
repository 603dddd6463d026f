"""How channels get through one operation, told from the shapes and arguments autograd recorded.

An operation gets channels along one axis of its input and gives them along one axis of its
output; mostly position by position, else by a relation between positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

HINT = "register_attention or register_layout can say how units lie there"

Indices = NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Relation:
    """Which position before an operation belongs to which behind it.

    Attributes:
        before: [n] positions before.
        behind: [n] positions behind.
    """

    before: Indices
    behind: Indices

    def then(self, following: "Relation | None") -> "Relation":
        """This relation, and the following one behind it."""
        if following is None:
            return self
        rows, behind = _looked_up(self.behind, following.before, following.behind)
        return Relation(self.before[rows], behind)

    def forward(self, positions: Indices) -> tuple[Indices, Indices]:
        """([m] indices into `positions`, [m] positions behind)."""
        return _looked_up(positions, self.before, self.behind)

    def backward(self, positions: Indices) -> tuple[Indices, Indices]:
        """([m] indices into `positions`, [m] positions before)."""
        return _looked_up(positions, self.behind, self.before)


def _looked_up(wanted: Indices, keys: Indices, values: Indices) -> tuple[Indices, Indices]:
    order = np.argsort(keys, kind="stable")
    low = np.searchsorted(keys[order], wanted, "left")
    counts = np.searchsorted(keys[order], wanted, "right") - low
    rows = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, values[order][np.repeat(low, counts) + within]


@dataclass(frozen=True, eq=False)
class Passage:
    """Where the channels lie behind an operation, and which is which.

    Attributes:
        axis: The axis of the output.
        relation: None where positions stay as they are.
    """

    axis: int
    relation: Relation | None = None


def passage(function: Any, index: int, axis: int, shape: Shape) -> Passage | str:
    """How channels along `axis` of one input of an operation get through.

    Args:
        function: The operation's node in the autograd graph.
        index: Which of its inputs.
        axis: The axis of the input that carries the channels.
        shape: Shape of the input.

    Returns:
        The passage, or why channels cannot be followed.
    """
    name = operation(function)
    if name in _MATRIX or name.startswith("ScaledDotProduct"):
        return f"its channels take part in a matrix product ({name}); {HINT}"
    rule = _RULES.get(name, _plain)
    return rule(function, index, axis, shape)


def outlet(function: Any, number: int) -> Relation | None:
    """Which channels an operation with several outputs gives in that one; None for all."""
    name = operation(function)
    if not name.startswith("Split"):
        return None
    axis = axis_argument(function, "_saved_dim", len(function._saved_self_sym_sizes))
    sizes = [output.shape[axis] for output in function._input_metadata]
    start = sum(sizes[:number])
    return Relation(np.arange(start, start + sizes[number]), np.arange(sizes[number]))


def joins_along(function: Any, axis: int) -> bool:
    """Whether the operation puts its inputs one behind the other along that axis."""
    return operation(function) == "Cat" and axis == axis_argument(
        function, "_saved_dim", len(output_shape(function))
    )


def operation(function: Any) -> str:
    """Name of an operation, such as "Relu"."""
    return str(function.name()).split("Backward")[0].removeprefix("torch::autograd::")


def output_shape(function: Any, number: int = 0) -> Shape:
    """Shape of one output of an operation."""
    return tuple(function._input_metadata[number].shape)


def axis_argument(function: Any, name: str, dimensions: int) -> int:
    """An axis the operation was called with, counted from the front."""
    return _from_front(getattr(function, name), dimensions)


def _from_front(axis: int, dimensions: int) -> int:
    """Autograd keeps a negative axis as an unsigned number."""
    axis = axis - 2**64 if axis >= 2**63 else axis
    return axis + dimensions if axis < 0 else axis


def _plain(function: Any, index: int, axis: int, shape: Shape) -> Passage | str:
    """Element by element, over windows, or over other axes; shapes are aligned at their ends."""
    name, out = operation(function), output_shape(function)
    over_all = f"an operation runs over its channels ({name})"
    if name in _MOMENTS:
        over_all += "; register_norm says that a module is a norm"
    if name in _STATISTICS:
        return over_all
    behind = axis + len(out) - len(shape)
    over = getattr(function, "_saved_dim", getattr(function, "_saved_dims", None))
    if over is not None:
        axes = over if isinstance(over, tuple | list) else (over,)
        named = {_from_front(a, len(shape)) for a in axes}
        if axis in named:
            return over_all
        if len(out) < len(shape):
            behind = axis - sum(a < axis for a in named)
    if not 0 <= behind < len(out):
        return over_all
    if out[behind] == shape[axis]:
        return Passage(behind)
    if shape[axis] == 1:
        return f"its only channel is spread over {out[behind]} others ({name})"
    return f"an operation makes {out[behind]} channels of {shape[axis]} ({name})"


def _reshaped(function: Any, index: int, axis: int, shape: Shape) -> Passage | str:
    """Channels stay an axis of their own, are flattened with others, or become coarser ones."""
    out, size, stride = output_shape(function), shape[axis], prod(shape[axis + 1 :])
    for behind, length in enumerate(out):
        inner = prod(out[behind + 1 :])
        if behind == 0 < axis or not inner:
            continue  # channels do not become samples
        if length == size and inner == stride:
            return Passage(behind)
        times, rest = divmod(stride, inner)
        if length > size and times and not rest and length % (size * times) == 0:
            flat = np.arange(length)
            return Passage(behind, Relation(flat % (size * times) // times, flat))
        times, rest = divmod(size, length)
        if length < size and not rest and inner == stride * times:
            return Passage(behind, Relation(np.arange(size), np.arange(size) // times))
    return f"a reshape mixes its channels with another axis; {HINT}"


def _transposed(function: Any, index: int, axis: int, shape: Shape) -> Passage:
    first = axis_argument(function, "_saved_dim0", len(shape))
    second = axis_argument(function, "_saved_dim1", len(shape))
    return Passage({first: second, second: first}.get(axis, axis))


def _permuted(function: Any, index: int, axis: int, shape: Shape) -> Passage:
    return Passage([_from_front(a, len(shape)) for a in function._saved_dims].index(axis))


def _stacked(function: Any, index: int, axis: int, shape: Shape) -> Passage:
    new = axis_argument(function, "_saved_dim", len(shape) + 1)
    return Passage(axis + (new <= axis))


def _sliced(function: Any, index: int, axis: int, shape: Shape) -> Passage:
    if axis != axis_argument(function, "_saved_dim", len(shape)):
        return Passage(axis)
    start, end = (_from_front(n, shape[axis]) for n in (function._saved_start, function._saved_end))
    kept = np.arange(shape[axis])[start : end : function._saved_step]
    return Passage(axis, Relation(kept, np.arange(len(kept))))


def _split(function: Any, index: int, axis: int, shape: Shape) -> Passage:
    return Passage(axis)


def _joined(function: Any, index: int, axis: int, shape: Shape) -> Passage | str:
    if not joins_along(function, axis):
        return Passage(axis)
    whole = output_shape(function)[axis]
    sizes = [
        output_shape(source, number)[axis] if source is not None else None
        for source, number in function.next_functions
    ]
    if sizes[:index].count(None) and sizes.count(None) > 1:
        return "it is joined with several constants"
    gap = whole - sum(size for size in sizes if size is not None)
    start = sum(gap if size is None else size for size in sizes[:index])
    return Passage(axis, Relation(np.arange(shape[axis]), np.arange(shape[axis]) + start))


Rule = Callable[[Any, int, int, Shape], Passage | str]

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"), _reshaped),
    "Transpose": _transposed,
    "Permute": _permuted,
    "Stack": _stacked,
    "Slice": _sliced,
    "Split": _split,
    "SplitWithSizes": _split,
    "Cat": _joined,
}
_MATRIX = frozenset({
    "Mm", "Bmm", "Addmm", "Baddbmm", "Addbmm", "Mv", "Addmv", "Dot", "Linear", "Convolution",
    "Matmul", "Addr",
})  # fmt: skip
_MOMENTS = frozenset({"Mean", "Std", "StdMean", "Var", "VarMean"})
_STATISTICS = frozenset({"NativeLayerNorm", "NativeGroupNorm", "FusedRmsNorm"})
