"""Resized tensors: a tensor of another shape that replaces a parameter or buffer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def resized(old: Tensor, values: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a tensor with new values that is like `old` in everything else.

    Its class, `requires_grad`, gradient and attributes are those of `old`.

    Args:
        old: The parameter or buffer.
        values: The new values, of the new shape.
        move: Re-indexes a tensor of the old shape: the gradient, and attributes of that shape.
    """
    new = values
    if isinstance(old, nn.Parameter):
        new = _parameter(old, values)
        if old.grad is not None:
            new.grad = move(old.grad)
    attributes: dict[str, Any] = getattr(old, "__dict__", {})
    for name, value in attributes.items():
        alike = isinstance(value, Tensor) and value.shape == old.shape and value is not old
        setattr(new, name, move(value) if alike else value)
    return new


def _parameter(old: nn.Parameter, values: Tensor) -> nn.Parameter:
    """Return a parameter of the same class.

    As in `deepcopy`, the constructor of a subclass is not called: its arguments are unknown.
    """
    if type(old) is nn.Parameter:
        return nn.Parameter(values, requires_grad=old.requires_grad)
    made: nn.Parameter = torch.Tensor._make_subclass(type(old), values, old.requires_grad)
    return made
