"""Placements: the entries that a group's units hold in the tensors of a model."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from growmas.structure.layers.axes import LayerAxes, Role, TensorAxis
from growmas.structure.units.groups import Member, UnitGroup


@dataclass(frozen=True, eq=False)
class Placement:
    """The entries that the units of a group hold along one axis of one tensor.

    Attributes:
        layer: Qualified name of the layer.
        module: The layer.
        axis: The tensor, its axis, and the role of the entries.
        axes: All axes of the layer.
        positions: [U, m] int64, the m entries of each unit along the axis.
        rows: True for rows of a layer that have the role of columns, see `Member.reads`.
    """

    layer: str
    module: nn.Module
    axis: TensorAxis
    axes: LayerAxes
    positions: Tensor
    rows: bool = False

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer, as it is now."""
        tensor: Tensor = getattr(self.module, self.axis.tensor)
        return tensor


def placements(
    model: nn.Module,
    group: UnitGroup,
    roles: Collection[Role] = ("out", "in", "norm"),
    *,
    modules: Mapping[str, nn.Module] | None = None,
) -> Iterator[Placement]:
    """Yield every axis of every tensor that changes with the group.

    Args:
        model: The network.
        group: The group.
        roles: "out" for the rows that make the units, "in" for the columns that read them,
            "norm" for the constants between.
        modules: Qualified name -> module of the model, if known; it saves looking up each.
    """
    for member in group.members:
        layer = member.layer
        module = model.get_submodule(layer) if modules is None else modules[layer]
        length = member.axes.channels(module, member.side)
        for axis, held, rows in _parts(member):
            if axis.role in roles and getattr(module, axis.tensor, None) is not None:
                positions = axis.positions(held, length)
                yield Placement(member.layer, module, axis, member.axes, positions, rows)


def _parts(member: Member) -> Iterator[tuple[TensorAxis, Tensor, bool]]:
    """Give the axes of a side with the positions on them, those that are read apart."""
    gives = [slot for slot in range(member.positions.shape[1]) if slot not in member.reads]
    for axis in member.axes.side(member.side):
        if not member.reads or axis.role != "out":
            yield axis, member.positions, False
            continue
        if gives:
            yield axis, member.positions[:, gives], False
        yield replace(axis, role="in"), member.positions[:, list(member.reads)], True
