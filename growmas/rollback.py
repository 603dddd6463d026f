"""Rollback of models, optimizers and other parts to the state they had before a failure."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Undo = Callable[[], None]


@contextmanager
def restored_on_error(*parts: object) -> Iterator[None]:
    """Restore parts after an exception: objects, values, shapes, settings and random numbers.

    Args:
        parts: Models, optimizers, generators, and objects whose attributes are settings, tensors,
            and mappings or lists of these.
    """
    undo = [_snapshot(part) for part in parts]
    try:
        yield
    except BaseException:
        with ExitStack() as stack:  # all of them, even if one fails
            for restore in undo:
                stack.callback(restore)
        raise


@contextmanager
def restored(*parts: object) -> Iterator[None]:
    """Restore parts after the block, as `restored_on_error` does after an exception."""
    undo = [_snapshot(part) for part in parts]
    with ExitStack() as stack:
        for restore in undo:
            stack.callback(restore)
        yield


def _snapshot(part: object) -> Undo:
    if isinstance(part, nn.Module):
        return _model(part)
    if isinstance(part, Optimizer):
        return _optimizer(part)
    if isinstance(part, torch.Generator):
        state = part.get_state()
        return lambda: _ignore(part.set_state(state))
    return _object(part)


def _model(model: nn.Module) -> Undo:
    modules = [(module, _copied(vars(module))) for module in model.modules()]
    tensors = [(t, t.detach().clone()) for t in (*model.parameters(), *model.buffers())]
    gradients = [(p, p.grad, p.grad) for p in model.parameters()]
    kept = [(p, grad, None if grad is None else grad.clone()) for p, grad, _ in gradients]

    def restore() -> None:
        for module, held in modules:
            _restore(vars(module), held)
        _copy_back(tensors)
        for parameter, gradient, value in kept:
            parameter.grad = gradient
            if gradient is not None and value is not None:
                _copy_back([(gradient, value)])

    return restore


def _optimizer(optimizer: Optimizer) -> Undo:
    groups = [(group, _copied(group)) for group in optimizer.param_groups]
    state = {p: dict(held) for p, held in optimizer.state.items()}
    tensors = [
        (t, t.detach().clone())
        for held in state.values()
        for t in held.values()
        if isinstance(t, Tensor)
    ]
    whole = dict(vars(optimizer))

    def restore() -> None:
        for group, held in groups:
            group.clear()
            group.update(held)
        vars(optimizer).update(whole)
        optimizer.param_groups[:] = [group for group, _ in groups]
        optimizer.state.clear()
        optimizer.state.update({p: dict(held) for p, held in state.items()})
        _copy_back(tensors)

    return restore


def _object(part: object) -> Undo:
    values = getattr(part, "__dict__", None)
    if values is None:
        return lambda: None
    held = _copied(values)
    tensors = [(tensor, tensor.detach().clone()) for tensor in _tensors(held)]

    def restore() -> None:
        _restore(values, held)
        _copy_back(tensors)

    return restore


def _tensors(values: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in values.values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from (each for each in value.values() if isinstance(each, Tensor))
        elif isinstance(value, list | tuple):
            yield from (each for each in value if isinstance(each, Tensor))


def _copy_back(pairs: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for tensor, value in pairs:
            tensor.copy_(value)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a mapping and, one level deep, the mappings, lists and sets in it."""
    return {
        name: type(value)(value) if type(value) in (dict, list, set) else value
        for name, value in values.items()
    }


def _restore(values: dict[str, Any], held: Mapping[str, Any]) -> None:
    """Give a mapping its former contents; mappings and lists in it stay the same objects."""
    for name in values.keys() - held.keys():
        del values[name]
    for name, value in held.items():
        present: Any = values.get(name)
        if isinstance(present, dict | set) and type(present) is type(value):
            present.clear()
            present.update(value)
        elif type(value) is list and type(present) is list:
            present[:] = value
        else:
            values[name] = value


def _ignore(value: object) -> None:
    """Return None for any value."""
