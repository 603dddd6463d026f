"""Lengths of rows that a layer keeps apart from them, as weight norm does: W = g · V / |V|.

A column of V that goes or comes changes |V|, and so would change all other columns of W. So g is
multiplied by what |V| was multiplied by, row by row: W keeps its other columns, and a fresh column
of zeros is one of zeros. Ω and anchors move along, as with the gains of norms: the same change of
the function costs the same penalty.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from growmas.structure.surgery.tensor_swap import TensorSwap
from growmas.structure.units.edit import AxisTransfer
from growmas.structure.units.groups import UnitGroup


@torch.no_grad()
def keep_weights(
    model: nn.Module, groups: Iterable[UnitGroup], swap: TensorSwap
) -> dict[str, tuple[AxisTransfer, ...]]:
    """Set the lengths of rows whose columns changed, so that the weights stay.

    Args:
        model: The network with its new tensors, filled.
        groups: Its groups.
        swap: The old and new tensors.

    Returns:
        Qualified parameter name -> how its values and importance changed.
    """
    found: dict[str, tuple[AxisTransfer, ...]] = {}
    members = [m for group in groups for m in group.members if m.axes.row_lengths is not None]
    for member in members:
        kept = member.axes.row_lengths
        rows = kept and ".".join(filter(None, [member.layer, kept.rows]))
        if kept is None or rows is None or rows not in swap.swapped:
            continue
        name = ".".join(filter(None, [member.layer, kept.lengths]))
        changes = {change.dim: change for change in swap.changes[rows]}
        if name in found or not changes.keys() - {kept.dim}:
            continue
        old, new = (lengths_of(each, kept.dim) for each in swap.swapped[rows])
        if kept.dim in changes:
            source = changes[kept.dim].source.to(old.device)
            old = torch.where(source >= 0, old[source], new)
        factor = (new / old).double().cpu()
        lengths: Tensor = getattr(model.get_submodule(member.layer), kept.lengths)
        shape = [-1 if dim == kept.dim else 1 for dim in range(lengths.dim())]
        swap.multiply(lengths, factor.to(lengths).view(shape))
        where = torch.arange(len(factor))
        found[name] = (AxisTransfer(kept.dim, where, where, factor, factor**-2),)
    return found


def lengths_of(rows: Tensor, dim: int) -> Tensor:
    """Return the lengths of the rows of a tensor that lie along an axis."""
    lengths: Tensor = torch.linalg.vector_norm(rows.detach().movedim(dim, 0).flatten(1), dim=1)
    return lengths
