"""A tensor of another shape in the place of a parameter or buffer, like it in all else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def resized(old: Tensor, values: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """What takes the place of `old`: its class, whether it is trained, gradient and attributes.

    Args:
        old: The parameter or buffer.
        values: What it becomes.
        move: Re-indexes a tensor of its old shape: the gradient, and attributes of that shape.
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
    """A parameter of the same class; classes of one's own are not called, as in `deepcopy`."""
    if type(old) is nn.Parameter:
        return nn.Parameter(values, requires_grad=old.requires_grad)
    made: nn.Parameter = torch.Tensor._make_subclass(type(old), values, old.requires_grad)
    return made
