"""The importance of a structure's units, and the part of each layer in it, as they are stored."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from growmas.history.importance import (
    PackedImportance,
    Shares,
    by_ascending_id,
    pack_importance,
    pack_shares,
    summed,
)

if TYPE_CHECKING:
    from torch import Tensor

    from growmas.history.external_model import ExternalModel
    from growmas.structure import Structure


def importance_of_units(
    structure: "Structure | ExternalModel", omega: "Mapping[str, Tensor]"
) -> tuple[dict[str, PackedImportance], dict[str, Shares]]:
    """Return the importance of every unit, and the shares of the layers that read it, by group.

    Args:
        structure: The units.
        omega: Importance by parameter name, of the parameters' shapes.

    Raises:
        HistoryError: If an importance is not finite.
    """
    ids = {name: group.unit_ids for name, group in structure.groups.items()}
    by_layer = {
        name: {layer: by_ascending_id(ids[name], part.tolist()) for layer, part in parts.items()}
        for name, parts in structure.consumers(omega).items()
    }
    if by_layer:
        totals = {name: summed(parts) for name, parts in by_layer.items()}
    else:
        found = structure.saliency(omega)
        totals = {name: by_ascending_id(ids[name], part.tolist()) for name, part in found.items()}
    values = {
        name: pack_importance(name, sorted(ids[name]), units) for name, units in totals.items()
    }
    return values, {name: pack_shares(by_layer[name], totals[name]) for name in by_layer}
