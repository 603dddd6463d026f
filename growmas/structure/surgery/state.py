"""The state of a structure for a checkpoint: everything but the model's tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from growmas.errors import SurgeryError
from growmas.structure.surgery.tensor_swap import TensorSwap, side_lengths, swap_tensors
from growmas.structure.surgery.widening import norm_settings
from growmas.structure.units.groups import UnitGroup, group_state
from growmas.structure.units.inventory import Inventory

_LARGEST = 2**31


def structure_state(
    model: nn.Module,
    tasks: Sequence[str],
    groups: Mapping[str, UnitGroup],
    heads: Mapping[str, UnitGroup],
) -> dict[str, Any]:
    """Return tasks, groups, heads, ids, sizes and settings of norms, as tensors and JSON values."""
    lengths = side_lengths(Inventory(model), [*groups.values(), *heads.values()])
    return {
        "tasks": list(tasks),
        "groups": {name: group_state(group) for name, group in groups.items()},
        "heads": {name: group_state(head) for name, head in heads.items()},
        "sizes": {f"{layer}.{side}": length for (layer, side), length in lengths.items()},
        "norms": norm_settings(model, groups.values()),
    }


def check_is_state(state: Mapping[str, Any]) -> None:
    """Refuse a state that `structure_state` did not make.

    Raises:
        SurgeryError: Names the missing keys.
    """
    missing = [key for key in ("tasks", "groups", "sizes") if key not in state]
    if missing:
        raise SurgeryError(
            f"the state lacks {', '.join(map(repr, missing))}: expected the result of "
            "Structure.state_dict()"
        )


def _size(state: Mapping[str, Any], side: str) -> int:
    size = state["sizes"].get(side)
    if type(size) is not int or not 0 < size < _LARGEST:
        raise SurgeryError(f"the state gives {side!r} the size {size!r:.80}: expected 1 or more")
    return size


def resize(
    model: nn.Module, groups: Mapping[str, UnitGroup], state: Mapping[str, Any]
) -> TensorSwap:
    """Give the layers of the groups the sizes and settings that `structure_state` recorded.

    Every tensor is replaced by one of the recorded shape with arbitrary values.
    """
    inventory = Inventory(model)
    sources = {
        at: torch.full((_size(state, f"{at[0]}.{at[1]}"),), -1)
        for at in side_lengths(inventory, groups.values())
    }
    # a generator of its own, so that torch's random state stays as it is
    swap = swap_tensors(inventory, groups.values(), sources, torch.Generator())
    known = norm_settings(model, groups.values())
    for path, value in state.get("norms", {}).items():
        if path not in known or not (value is None or type(value) in (int, float)):
            raise SurgeryError(f"the state sets {path!r} to {value!r:.80}, which is not allowed")
        layer, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(layer), attribute, value)
    return swap
