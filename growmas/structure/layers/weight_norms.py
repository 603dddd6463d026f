"""Weight norm: the tensors that a weight is computed from, which move in its place.

A layer with weight norm, W = g · V / |V| with the length of each row of V, has two tensors instead
of its weight: under `parametrizations` (torch.nn.utils.parametrizations.weight_norm), or as
`weight_g` and `weight_v` of its own (torch.nn.utils.weight_norm).

    unit of the layer        an entry of g, a row of V: free, since rows do not meet
    unit that it reads       a column of V: |V| changes with it, and g by as much, so that the
                             other columns of W stay as they are

Where the lengths are those of something else than rows, as in a transposed convolution, or of the
whole of V, and for all other parametrisations, the layer stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from growmas.structure.layers.axes import LayerAxes, Side, axes_of
from growmas.structure.layers.normalisation import RowLengths

_REMEDY = (
    "Make its weights plain first, with torch.nn.utils.parametrize.remove_parametrizations(layer, "
    "'weight') or the like"
)


@dataclass(frozen=True)
class _WeightNorm:
    """The places of the tensors of a weight norm.

    Attributes:
        holder: The module that has them, by its name below the layer; "" is the layer itself.
        length: Name of g in it.
        direction: Name of V in it.
        dim: The axis of the weight along which each entry has a length of its own.
    """

    holder: str
    length: str
    direction: str
    dim: int


def why_parametrised(module: nn.Module) -> str:
    """Return why a layer whose weights are computed from others cannot be resized, or nothing."""
    kinds = sorted({type(each).__name__ for each in _computing(module)})
    if not kinds or _rows_normed(module) is not None:
        return ""
    named = ", ".join(kind.lstrip("_") for kind in kinds)
    if any("Spectral" in kind for kind in kinds):
        return (
            f"it is parametrised ({named}): its weights are divided by their largest singular "
            f"value, which every channel changes (spectral_norm). {_REMEDY}"
        )
    if any("WeightNorm" in kind for kind in kinds):
        return (
            f"it is parametrised ({named}): lengths of something else than its rows are normed "
            f"(weight_norm), so that every unit changes them. {_REMEDY}"
        )
    return (
        f"it is parametrised ({named}; weight_norm moves along, spectral_norm, pruning masks and "
        "others do not): its weights are computed from tensors that surgery does not see. "
        f"{_REMEDY}"
    )


def with_originals(module: nn.Module, axes: LayerAxes) -> dict[str, LayerAxes]:
    """Return the axes of a layer's tensors by the module below it that has them.

    They are the layer's own, but for one with weight norm.
    """
    found = _rows_normed(module)
    if found is None:
        return {"": axes}
    rows = [axis for axis in axes.out if axis.tensor == "weight"]
    columns = [axis for axis in axes.into if axis.tensor == "weight"]
    lengths = (replace(axis, tensor=found.length, role="norm", fresh=1.0) for axis in rows)
    out = (*lengths, *(replace(axis, tensor=found.direction) for axis in rows))
    into = tuple(replace(axis, tensor=found.direction) for axis in columns)
    rest = replace(
        axes,
        out=tuple(axis for axis in axes.out if axis.tensor != "weight"),
        into=tuple(axis for axis in axes.into if axis.tensor != "weight"),
    )
    kept = RowLengths(found.length, found.direction, found.dim)
    if not found.holder:
        return {"": replace(rest, out=(*out, *rest.out), into=into, row_lengths=kept)}

    def length(holder: Any, side: Side) -> int:
        (axis,) = columns if side == "in" else rows
        entries = getattr(holder, found.direction).shape[axis.dim]
        return int(entries * axis.shared // axis.blocks)

    moved = LayerAxes(out, into, length=length, along=axes.along, row_lengths=kept)
    return {"": rest, found.holder: moved}


def _rows_normed(module: nn.Module) -> _WeightNorm | None:
    """Return the weight norm of a layer, if it is one of rows, and all that it has."""
    norms = list(_norms(module))
    axes = axes_of(module)
    if len(norms) != 1 or len(list(_computing(module))) != 1 or axes is None:
        return None
    rows = [axis.dim for axis in axes.out if axis.tensor == "weight"]
    return norms[0] if rows == [norms[0].dim] else None


def _norms(module: nn.Module) -> Iterator[_WeightNorm]:
    for each in _computing(module):
        kind: Any = each
        if type(each).__name__ == "_WeightNorm":
            held = [n for n, p in _parametrizations(module).items() if each in list(p)]
            if held == ["weight"]:
                yield _WeightNorm("parametrizations.weight", "original0", "original1", kind.dim)
        elif type(each).__name__ == "WeightNorm" and kind.name == "weight":
            yield _WeightNorm("", "weight_g", "weight_v", kind.dim)


def _computing(module: nn.Module) -> Iterator[Any]:
    """Give the parametrisations of a layer, and the hooks of torch.nn.utils that do the same."""
    if is_parametrized(module):
        for parametrizations in _parametrizations(module).values():
            yield from parametrizations
    for hook in module._forward_pre_hooks.values():
        if type(hook).__module__.startswith("torch.nn.utils."):
            yield hook


def _parametrizations(module: Any) -> dict[str, Any]:
    return dict(module.parametrizations.items())
