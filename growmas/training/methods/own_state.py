"""State of a method that is its own: the attributes that a checkpoint holds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_SHARED = {"structure", "mas", "context", "manager"}

_BITS = {torch.bool: 1, torch.uint8: 8}
"""Bits of an entry of a mask; 32 of them count as one number."""


def own_state(method: object) -> dict[str, Any]:
    """Return the state of each attribute that has one, by name.

    An attribute has a state if it is a tensor, a mapping of names to tensors, a number, text, a
    generator, None, or a part: an object with `state_dict()` and `load_state_dict(state)`, such as
    `Reservoir`. Of a method of growmas itself, the attributes in its `SAVED` alone are held.
    """
    names = [name for name in vars(method) if name not in _SHARED]
    if type(method).__module__.partition(".")[0] == "growmas":
        names = [name for name in getattr(method, "SAVED", ()) if name in vars(method)]
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(method, name)
        if isinstance(value, Tensor | int | float | str) or value is None:
            found[name] = value
        elif isinstance(value, torch.Generator):
            found[name] = value.get_state()
        elif hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            found[name] = dict(value.state_dict())
        elif _is_tensors(value):
            found[name] = dict(value)
    return found


def load_own_state(method: object, state: Mapping[str, Any]) -> None:
    """Give a method back what `own_state` returned."""
    for name, held in state.items():
        value = getattr(method, name, None)
        if isinstance(value, torch.Generator):
            value.set_state(held)
        elif hasattr(value, "load_state_dict"):
            value.load_state_dict(held)  # type: ignore[union-attr]
        else:
            setattr(method, name, held)


def numbers_in(state: Any) -> int:
    """Return the number of entries of all tensors in a nest of mappings and lists.

    Entries of bool and uint8, which are masks, count by their bits: 32 bits are one number. Tensors
    under the key "generator", the state of a random generator, do not count.
    """
    if isinstance(state, Tensor):
        return -(-state.numel() * _BITS.get(state.dtype, 32) // 32)
    if isinstance(state, Mapping):
        return sum(numbers_in(each) for key, each in state.items() if key != "generator")
    if isinstance(state, list | tuple):
        return sum(map(numbers_in, state))
    return 0


def _is_tensors(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items()
    )
