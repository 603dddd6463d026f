"""Rollback of a model and an optimizer to the state they had before a load that failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


@contextmanager
def all_or_nothing(model: nn.Module, optimizer: Optimizer | None) -> Iterator[None]:
    """Restore model and optimizer after an exception: objects, values, shapes and settings."""
    modules = [(module, _copied(vars(module))) for module in model.modules()]
    tensors = [
        (tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())
    ]
    groups = [] if optimizer is None else [(g, _copied(g)) for g in optimizer.param_groups]
    state = {} if optimizer is None else {p: dict(held) for p, held in optimizer.state.items()}
    whole = {} if optimizer is None else dict(vars(optimizer))
    try:
        yield
    except BaseException:
        for module, held in modules:
            _restore(vars(module), held)
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)
        for group, held in groups:
            group.clear()
            group.update(held)
        if optimizer is not None:
            vars(optimizer).update(whole)
            optimizer.state.clear()
            optimizer.state.update(state)
        raise


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    """Copy a mapping and, one level deep, the mappings and lists in it."""
    return {
        name: type(value)(value) if type(value) in (dict, list) else value
        for name, value in values.items()
    }


def _restore(values: dict[str, Any], held: dict[str, Any]) -> None:
    """Give a mapping its former contents; mappings and lists in it stay the same objects."""
    for name in values.keys() - held.keys():
        del values[name]
    for name, value in held.items():
        present = values.get(name)
        if type(value) is dict and type(present) is dict:
            present.clear()
            present.update(value)
        elif type(value) is list and type(present) is list:
            present[:] = value
        else:
            values[name] = value
