"""Duplicates of a model: deep copies that tensors with a graph behind them do not prevent."""

import copy

from torch import Tensor, nn


def duplicate(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model.

    Tensors among plain attributes that have a graph behind them, such as a weight that a hook of
    torch.nn.utils.weight_norm computed in the last forward pass, are copied without it;
    `copy.deepcopy` alone refuses them.
    """
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, computed)
