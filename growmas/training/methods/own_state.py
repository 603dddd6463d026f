"""State of a user's method: the attributes that a checkpoint can hold."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_SHARED = {"structure", "mas", "context", "manager"}


def own_state(method: object) -> dict[str, Any]:
    """Return the state of each attribute that has one: tensors, numbers, text, generators, parts.

    Parts are objects with `state_dict()` and `load_state_dict(state)`, such as `Reservoir`.
    """
    if type(method).__module__.partition(".")[0] == "growmas":
        return {}
    found: dict[str, Any] = {}
    for name, value in vars(method).items():
        if name in _SHARED:
            continue
        if isinstance(value, Tensor | int | float | str) or value is None:
            found[name] = value
        elif isinstance(value, torch.Generator):
            found[name] = value.get_state()
        elif hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            found[name] = dict(value.state_dict())
    return found


def load_own_state(method: object, state: Mapping[str, Any]) -> None:
    """Give a user's method back what `own_state` returned."""
    for name, held in state.items():
        value = getattr(method, name, None)
        if isinstance(value, torch.Generator):
            value.set_state(held)
        elif hasattr(value, "load_state_dict"):
            value.load_state_dict(held)  # type: ignore[union-attr]
        else:
            setattr(method, name, held)
