"""What a structure is beside its tensors, as a checkpoint holds it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from growmas.errors import SurgeryError
from growmas.structure.surgery.tensor_swap import Incision, cut, side_lengths
from growmas.structure.surgery.widening import norm_settings
from growmas.structure.units.groups import UnitGroup, group_state
from growmas.structure.units.inventory import Inventory


def structure_state(
    model: nn.Module,
    tasks: Sequence[str],
    groups: Mapping[str, UnitGroup],
    heads: Mapping[str, UnitGroup],
) -> dict[str, Any]:
    """Tasks, groups, heads, ids, sizes and settings of norms, as tensors and JSON values."""
    lengths = side_lengths(Inventory(model), [*groups.values(), *heads.values()])
    return {
        "tasks": list(tasks),
        "groups": {name: group_state(group) for name, group in groups.items()},
        "heads": {name: group_state(head) for name, head in heads.items()},
        "sizes": {f"{layer}.{side}": length for (layer, side), length in lengths.items()},
        "norms": norm_settings(model, groups.values()),
    }


def check_is_state(state: Mapping[str, Any]) -> None:
    """Refuse what is no state of a structure.

    Raises:
        SurgeryError: Names what it lacks.
    """
    missing = [key for key in ("tasks", "groups", "sizes") if key not in state]
    if missing:
        raise SurgeryError(
            f"the state lacks {', '.join(map(repr, missing))}: expected what "
            "Structure.state_dict() gave"
        )


def resize(model: nn.Module, groups: Mapping[str, UnitGroup], state: Mapping[str, Any]) -> Incision:
    """Give the layers of the groups the sizes and settings that `structure_state` recorded.

    Every tensor is replaced by one of the recorded shape, whose values mean nothing.
    """
    inventory = Inventory(model)
    sources = {
        at: torch.full((state["sizes"][f"{at[0]}.{at[1]}"],), -1)
        for at in side_lengths(inventory, groups.values())
    }
    # no random numbers of anybody's
    incision = cut(inventory, groups.values(), sources, torch.Generator())
    for path, value in state.get("norms", {}).items():
        layer, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(layer), attribute, value)
    return incision
