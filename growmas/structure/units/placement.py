"""Placements: the entries that a group's units hold in the tensors of a model."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from growmas.structure.layers.axes import LayerAxes, Role, TensorAxis
from growmas.structure.units.groups import UnitGroup


@dataclass(frozen=True, eq=False)
class Placement:
    """The entries that the units of a group hold along one axis of one tensor.

    Attributes:
        layer: Qualified name of the layer.
        module: The layer.
        axis: The tensor, its axis, and the role of the entries.
        axes: All axes of the layer.
        positions: [U, m] int64, the m entries of each unit along the axis.
    """

    layer: str
    module: nn.Module
    axis: TensorAxis
    axes: LayerAxes
    positions: Tensor

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
        for axis in member.axes.side(member.side):
            if axis.role in roles and getattr(module, axis.tensor, None) is not None:
                positions = axis.positions(member.positions, length)
                yield Placement(member.layer, module, axis, member.axes, positions)
