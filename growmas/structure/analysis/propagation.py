"""Propagation: what an operation does to the channels of one of its inputs.

Autograd records every operation with its arguments and the shapes of its outputs; that is all
that is needed to do to labels (see `labels`) what the operation does to entries. A worked example:

    >>> import numpy as np, torch
    >>> from growmas.structure.analysis.labels import along
    >>> images = torch.rand(5, 2, 3, 3, requires_grad=True)       # 2 channels along axis 1
    >>> labels = along(np.arange(2), axis=1, dimensions=4)

    >>> flat = images.relu().flatten(1)
    >>> relu, view = flat.grad_fn.next_functions[0][0], flat.grad_fn
    >>> operation(relu), operation(view)
    ('Relu', 'View')
    >>> behind = propagate(relu, 0, labels, (5, 2, 3, 3)).labels  # entry by entry: as they were
    >>> propagate(view, 0, behind, (5, 2, 3, 3)).labels.tolist()  # channel 0 in columns 0 to 8
    [[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]]

    >>> mean = images.mean((2, 3))                                # runs over axes without channels
    >>> propagate(mean.grad_fn, 0, labels, (5, 2, 3, 3)).labels.tolist()
    [[0, 1]]
    >>> propagate(images.amax(1).grad_fn, 0, labels, (5, 2, 3, 3))       # no channel stays apart
    'an operation runs over its channels (Amax)'

An operation without a rule of its own is taken to work entry by entry, or to run over the axes
that it was called with. A rule is a function of the operation's node in the autograd graph, the
number of the input, its labels and its shape; `RULES` has one for every name, `add_rule` adds one,
and docs/analysis.md shows how. A wrong rule costs a refusal and never a wrong network: every edit
is verified on the example inputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from growmas.structure.analysis.labels import (
    IndexMapping,
    Labels,
    Shape,
    distinct,
    merged,
    reshaped,
    squeezed,
    tied,
    varying,
)
from growmas.structure.analysis.outcomes import OverChannels, Propagation

HINT = "register_attention or register_layout can say how units lie there"


Rule = Callable[[Any, int, Labels, Shape], Propagation | str]
"""(node of the operation, number of the input, its labels, its shape) -> what is behind, or why
channels cannot be followed."""


def propagate(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation | str:
    """Follow the channels of one input through an operation.

    Args:
        function: The operation's node in the autograd graph.
        index: Which of its inputs.
        labels: The labels of the input.
        shape: The shape of the input.

    Returns:
        The channels behind it, or why they cannot be followed.
    """
    name = operation(function)
    if name in MATRIX or name.startswith("ScaledDotProduct"):
        return f"its channels take part in a matrix product ({name}); {HINT}"
    if name in _STATISTICS:
        return OverChannels(f"an operation runs over its channels ({name})")
    return RULES.get(name, _entry_by_entry)(function, index, labels, shape)


def output_labels(function: Any, number: int, labels: Labels) -> Labels:
    """Return the labels of one of the outputs of an operation that cuts its input to pieces."""
    name = operation(function)
    if name == "Unbind":
        axis = axis_argument(function, "_saved_dim", labels.ndim)
        return squeezed(labels.take(min(number, labels.shape[axis] - 1), axis))
    if name not in _CUTS:
        return labels
    axis = axis_argument(function, "_saved_dim", labels.ndim)
    if labels.shape[axis] == 1:
        return labels
    sizes = [output.shape[axis] for output in function._input_metadata]
    start = sum(sizes[:number])
    return squeezed(labels.take(range(start, start + sizes[number]), axis))


def joins_along(function: Any, axis: int) -> bool:
    """Return True if the operation puts its inputs one behind the other along that axis."""
    return operation(function) == "Cat" and axis == axis_argument(
        function, "_saved_dim", len(output_shape(function))
    )


def operation(function: Any) -> str:
    """Return the name of an operation, such as "Relu"."""
    return str(function.name()).split("Backward")[0].removeprefix("torch::autograd::")


def inputs_of(function: Any) -> tuple[tuple[Any, int], ...]:
    """Return what an operation reads: functions, each with the number of its output.

    A constant reads nothing, and torch 2.6 does not say what a call reads whose outputs are gone.
    """
    try:
        read: tuple[tuple[Any, int], ...] = function.next_functions
    except (AttributeError, RuntimeError):
        return ()
    return read


def output_shape(function: Any, number: int = 0) -> Shape:
    """Return the shape of one output of an operation."""
    return tuple(function._input_metadata[number].shape)


def axis_argument(function: Any, name: str, dimensions: int) -> int:
    """Return an axis that the operation was called with, counted from the front."""
    return from_front(getattr(function, name), dimensions)


def from_front(axis: int, dimensions: int) -> int:
    """Count an axis from the front; autograd keeps a negative one as an unsigned number."""
    axis = axis - 2**64 if axis >= 2**63 else axis
    return axis + dimensions if axis < 0 else axis


def axes_run_over(function: Any, dimensions: int) -> tuple[int, ...]:
    """Return the axes of the input that an operation was told to run over, in ascending order."""
    over = getattr(function, "_saved_dim", getattr(function, "_saved_dims", ()))
    if over is None:
        return tuple(range(dimensions))
    axes = tuple(over) if isinstance(over, tuple | list) else (over,)
    normed = getattr(function, "_saved_normalized_shape", None)
    if normed is not None:
        axes = tuple(range(dimensions - len(normed), dimensions))
    return tuple(sorted({from_front(axis, dimensions) for axis in axes}))


def _entry_by_entry(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation | str:
    """Follow an operation on single entries, over windows, or over some axes."""
    name, out = operation(function), output_shape(function)
    why_not = OverChannels(f"an operation runs over its channels ({name})")
    over = axes_run_over(function, len(shape))
    mapping = None
    if any(labels.shape[axis] > 1 for axis in over):
        if len(out) == len(shape) and out == shape and name not in _CUMULATIVE:
            if not varying(merged(labels, over)[0]):
                return _aligned(name, labels, shape, out, None, why_not) or why_not
            mapping = tied(labels, over)
        else:
            labels, mapping = merged(labels, over)
        if not varying(labels):
            return why_not
    if over and len(out) == len(shape) - len(over):
        labels = labels.squeeze(over)
    return _aligned(name, labels, shape, out, mapping) or why_not


def _aligned(
    name: str,
    labels: Labels,
    shape: Shape,
    out: Shape,
    mapping: IndexMapping | None,
    mixed: str = "",
) -> Propagation | str:
    """Align labels with the output at their last axes; nothing if they do not fit it."""
    lacking = len(out) - labels.ndim
    if lacking >= 0:
        labels = labels.reshape((1,) * lacking + labels.shape)
    elif any(length > 1 for length in labels.shape[:-lacking]):
        return ""
    else:
        labels = labels.reshape(labels.shape[-lacking:])
    for axis in varying(labels):
        if out[axis] != labels.shape[axis]:
            return f"an operation makes {out[axis]} channels of {labels.shape[axis]} ({name})"
    return Propagation(labels, mapping, mixed)


def _reshaped(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation | str:
    found = reshaped(labels, shape, output_shape(function))
    return "a reshape of a tensor without entries" if found is None else Propagation(found)


def _transposed(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    first = axis_argument(function, "_saved_dim0", len(shape))
    second = axis_argument(function, "_saved_dim1", len(shape))
    return Propagation(labels.swapaxes(first, second))


def _matrix_transposed(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    return Propagation(labels.T)


def _permuted(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    return Propagation(labels.transpose([from_front(a, len(shape)) for a in function._saved_dims]))


def _unbound(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    """Follow `unbind` up to its outputs, which `output_labels` takes apart."""
    return Propagation(labels)


def _stacked(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    axis = axis_argument(function, "_saved_dim", len(shape) + 1)
    return Propagation(np.expand_dims(labels, axis))


def _sliced(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    axis = axis_argument(function, "_saved_dim", len(shape))
    if labels.shape[axis] == 1:
        return Propagation(labels)
    bounds = (function._saved_start, function._saved_end)
    start, end = (from_front(bound, shape[axis]) for bound in bounds)
    kept = range(shape[axis])[start : end : function._saved_step]
    return Propagation(squeezed(labels.take(kept, axis)))


def _selected(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    axis = axis_argument(function, "_saved_dim", len(shape))
    chosen = from_front(function._saved_index, shape[axis]) if labels.shape[axis] > 1 else 0
    return Propagation(squeezed(np.take(labels, [chosen], axis).squeeze(axis)))


def _cut(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    """Follow a split; `output_labels` cuts the labels.

    Parts of equal size stay equal, whatever the number of channels: what lies at the same place
    in each of them comes and goes together.
    """
    axis = axis_argument(function, "_saved_dim", len(shape))
    sizes = [output.shape[axis] for output in function._input_metadata]
    if labels.shape[axis] == 1 or len(sizes) == 1 or len(set(sizes)) > 1:
        return Propagation(labels)
    parts = np.split(labels, len(sizes), axis)
    pairs = [IndexMapping.between(part, parts[0]) for part in parts]
    same = distinct(labels[labels >= 0])
    mapping = IndexMapping(
        np.concatenate([same, *(pair.inputs for pair in pairs[1:])]),
        np.concatenate([same, *(pair.outputs for pair in pairs[1:])]),
    )
    return Propagation(labels, mapping)


def _gated(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    """Follow `glu`: the first half of the channels, each times the sigmoid of one of the second."""
    axis = axis_argument(function, "_saved_dim", len(shape))
    if labels.shape[axis] == 1:
        return Propagation(labels)
    value, gate = np.split(labels, 2, axis)
    first, second = IndexMapping.between(value, value), IndexMapping.between(gate, value)
    mapping = IndexMapping(
        np.concatenate([first.inputs, second.inputs]),
        np.concatenate([first.outputs, second.outputs]),
    )
    return Propagation(value, mapping)


def _pixels_shuffled(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    """Follow `pixel_shuffle` and `pixel_unshuffle` by doing the same to the labels."""
    full = np.broadcast_to(labels, (*labels.shape[:-3], *shape[-3:])).copy()
    if operation(function) == "PixelShuffle":
        moved = torch.pixel_shuffle(torch.from_numpy(full), function._saved_upscale_factor)
    else:
        moved = torch.pixel_unshuffle(torch.from_numpy(full), function._saved_downscale_factor)
    return Propagation(squeezed(moved.numpy()))


def _channels_shuffled(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    if labels.shape[1] == 1:
        return Propagation(labels)
    parts = labels.reshape(
        labels.shape[0],
        function._saved_groups,
        shape[1] // function._saved_groups,
        *labels.shape[2:],
    )
    return Propagation(parts.swapaxes(1, 2).reshape(labels.shape))


def _padded(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    """Follow `pad`: the entries it adds are of no channel."""
    pads = list(zip(function._saved_pad[::2], function._saved_pad[1::2], strict=True))
    for axis, (before, after) in zip(reversed(range(len(shape))), pads, strict=False):
        if labels.shape[axis] > 1:
            cut = range(max(0, -before), shape[axis] - max(0, -after))
            widths = [(0, 0)] * labels.ndim
            widths[axis] = (max(0, before), max(0, after))
            labels = np.pad(labels.take(cut, axis), widths, constant_values=-1)
    return Propagation(labels)


def _repeated(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    times = function._saved_repeats
    labels = labels.reshape((1,) * (len(times) - labels.ndim) + labels.shape)
    tiles = [n if length > 1 else 1 for n, length in zip(times, labels.shape, strict=True)]
    return Propagation(np.tile(labels, tiles))


def _index_selected(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    axis = axis_argument(function, "_saved_dim", len(shape))
    if labels.shape[axis] == 1:
        return Propagation(labels)
    return Propagation(squeezed(labels.take(function._saved_index.cpu().numpy(), axis)))


def _indexed(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    """Follow `x[..., [1, 2], :]` by doing the same to the labels."""
    places: list[Any] = []
    for chosen in function._saved_indices:
        found: Any = (slice(None),)
        if chosen is not None:
            numbers = chosen.cpu().numpy()
            found = numbers.nonzero() if numbers.dtype == np.bool_ else (numbers,)
        for each in found:
            varies = isinstance(each, slice) or labels.shape[len(places)] > 1
            places.append(each if varies else 0 * each)
    return Propagation(squeezed(labels[tuple(places)]))


def _flipped(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    axes = tuple(from_front(axis, len(shape)) for axis in function._saved_dims)
    return Propagation(np.flip(labels, axes))


def _rolled(function: Any, index: int, labels: Labels, shape: Shape) -> Propagation:
    axes = tuple(from_front(axis, len(shape)) for axis in function._saved_dims)
    return Propagation(np.roll(labels, tuple(function._saved_shifts), axes) if axes else labels)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"), _reshaped),
    "Transpose": _transposed,
    "T": _matrix_transposed,
    "Permute": _permuted,
    "Stack": _stacked,
    "Unbind": _unbound,
    "Slice": _sliced,
    "Select": _selected,
    "Glu": _gated,
    "PixelShuffle": _pixels_shuffled,
    "PixelUnshuffle": _pixels_shuffled,
    "ChannelShuffle": _channels_shuffled,
    "ConstantPadNd": _padded,
    "Repeat": _repeated,
    "IndexSelect": _index_selected,
    "Index": _indexed,
    "Flip": _flipped,
    "Roll": _rolled,
    **dict.fromkeys(("Split", "SplitWithSizes", "UnsafeSplit"), _cut),
}
"""Name of an operation, as autograd has it without "Backward" -> its rule."""


def add_rule(name: str, rule: Rule) -> None:
    """Let channels be followed through an operation by a rule of one's own.

    Args:
        name: The operation as autograd names it, without "Backward0".
        rule: See `Rule`.
    """
    RULES[name] = rule


MATRIX = frozenset({
    "Mm", "Bmm", "Addmm", "Baddbmm", "Addbmm", "Mv", "Addmv", "Dot", "Linear", "Convolution",
    "Matmul", "Addr",
})  # fmt: skip
_CUTS = frozenset({"Split", "SplitWithSizes", "UnsafeSplit"})
_CUMULATIVE = frozenset({"Cumsum", "Cumprod", "Logcumsumexp"})
_STATISTICS = frozenset({"NativeGroupNorm"})
