"""Fit of a layer's axes to its tensors: a wrong registration is one entry in `fixed`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from growmas.structure.layers.axes import LayerAxes, Side, TensorAxis


def misfit(module: nn.Module, axes: "LayerAxes") -> str:
    """Return why axes do not fit the tensors of a layer, or nothing."""
    return next(_problems(module, axes), "")


def _problems(module: nn.Module, axes: "LayerAxes") -> Iterator[str]:
    sides: tuple[tuple[Side, tuple[TensorAxis, ...]], ...] = (("out", axes.out), ("in", axes.into))
    for side, along in sides:
        if not along:
            continue
        try:
            channels = axes.channels(module, side)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            yield (
                f"its number of channels on the side {side!r} is not known ({error}): give a Size "
                "whose name is an attribute of the layer, or length="
            )
            return
        held = {axis.tensor: getattr(module, axis.tensor, _MISSING) for axis in along}
        if module._parameters and all(tensor is _MISSING for tensor in held.values()):
            yield f"it has no tensor {' or '.join(map(repr, held))}"
            return
        for axis in along:
            tensor = held[axis.tensor]
            if isinstance(tensor, Tensor) and not is_lazy(tensor):
                yield from _axis_problem(axis, tensor, channels)


_MISSING: Any = object()


def _axis_problem(axis: "TensorAxis", tensor: Tensor, channels: int) -> Iterator[str]:
    if not -tensor.dim() <= axis.dim < tensor.dim():
        yield f"{axis.tensor!r} has {tensor.dim()} axes, and no axis {axis.dim}"
        return
    length, expected = tensor.shape[axis.dim], channels * axis.blocks // axis.shared
    if length != expected:
        yield (
            f"axis {axis.dim} of {axis.tensor!r} has {length} entries, and {channels} channels "
            f"(blocks={axis.blocks}, shared={axis.shared}) take {expected}"
        )
