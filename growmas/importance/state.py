"""State of a model that a forward pass may change: plain attributes and values of parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import repeat
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import ImportanceError
from growmas.importance.kept import kept, unwritten

_OWN = frozenset(vars(nn.Module())) - {"_modules"} | {"forward"}
"""Attributes of every module that forward passes leave alone, or that are preserved elsewhere."""

Contents = dict[Any, Any] | list[Any] | set[Any]


class Attributes:
    """Plain attributes and children of all modules, with the contents of containers.

    A cache such as `self.cache[device] = self.bias[:, index]` in a forward pass would be reused by
    the next one, with the autograd graph of the last. Therefore every forward pass of a
    measurement begins with the same attributes.
    """

    def __init__(self, model: nn.Module) -> None:
        """Remember the attributes of `model`."""
        self._modules = [(module, _plain(module)) for module in model.modules()]
        self._contents = [
            (held, copy(held))
            for _, attributes in self._modules
            for held in attributes.values()
            if isinstance(held, dict | list | set)
        ]

    @property
    def modules(self) -> list[nn.Module]:
        """Modules of the model."""
        return [module for module, _ in self._modules]

    def restore(self) -> None:
        """Give every module its attributes back."""
        for module, before in self._modules:
            now = vars(module)
            if not _has(now, before):
                now.update(before)
            if len(now) != len(before) + len(_OWN & now.keys()):
                for key in [k for k in now if k not in before and k not in _OWN]:
                    del now[key]
        for held, contents in self._contents:
            if not _same(held, contents):
                held.clear()
                held.extend(contents) if isinstance(held, list) else held.update(contents)

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are plain attributes, or entries of those."""
        return [t for _, attributes in self._modules for t in _tensors(attributes)]

    def drop_caches(self) -> None:
        """Let modules that keep tensors in plain attributes drop what they have computed.

        Going to train mode is how such modules are told to; the modes stay as they are.
        """
        for holder in [module for module, attributes in self._modules if _tensors(attributes)]:
            modes = [(child, child.training) for child in holder.modules()]
            holder.train()
            for child, mode in modes:
                child.training = mode


def _plain(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in vars(module).items() if key not in _OWN}


def _tensors(attributes: dict[str, Any]) -> list[Tensor]:
    found = []
    for held in attributes.values():
        values = [held]
        if isinstance(held, dict | list | set | tuple):
            values = list(held.values()) if isinstance(held, dict) else list(held)
        found += [v for v in values if isinstance(v, Tensor) and not isinstance(v, nn.Parameter)]
    return found


def _same(held: Contents, contents: Contents) -> bool:
    """Return True if a container has the same entries, compared by identity."""
    if len(held) != len(contents):
        return False
    if isinstance(held, dict) and isinstance(contents, dict):
        return _has(held, contents)
    if isinstance(held, set):
        return held == contents
    return all(one is other for one, other in zip(held, contents, strict=True))


def _has(held: dict[Any, Any], entries: dict[Any, Any]) -> bool:
    """Return True if `held` has these entries, compared by identity, without a step of Python."""
    return all(map(is_, map(held.get, entries, repeat(entries)), entries.values()))


@contextmanager
def untouched(model: nn.Module) -> Iterator[Attributes]:
    """Keep attributes and parameters of `model`; on exit, restore them bit for bit.

    Hooks on gradients of parameters are taken away while the context lasts: importance is about the
    function, not about what training does with its gradients.

    Caches that were filled before are dropped while the context lasts: with values computed under
    `no_grad`, the parameters they come from would seem to have no influence. Modules that keep
    tensors in plain attributes are put in train mode once for that, which is how they are told to
    drop them.

    Yields:
        The attributes with which every forward pass shall begin.

    Raises:
        ImportanceError: A forward pass put another parameter in the place of one that is measured.
    """
    replaced: list[str] = []
    before = Attributes(model)
    places = [(module._parameters, dict(module._parameters)) for module in model.modules()]
    values = [(parameter, kept(parameter)) for parameter in model.parameters()]
    hooks = [(p, p._backward_hooks) for p in model.parameters() if p._backward_hooks]
    try:
        for parameter, _ in hooks:
            parameter._backward_hooks = None
        before.drop_caches()
        yield Attributes(model)
    finally:
        for parameter, held_hooks in hooks:
            parameter._backward_hooks = held_hooks
        before.restore()
        for held, parameters in places:
            if not _same(held, parameters):
                replaced += [key for key, p in parameters.items() if held.get(key) is not p]
                held.clear()
                held.update(parameters)
        for parameter, value in values:
            if parameter.dtype != value.dtype or parameter.device != value.device:
                parameter.data = value  # the module was moved
            elif unwritten(parameter, value):
                continue
            elif not torch.equal(parameter, value) and not _same_bits(parameter, value):
                parameter.data.copy_(value)
    if replaced:
        raise ImportanceError(
            f"a forward pass puts another parameter in the place of {replaced[0]!r}, so that the "
            "output does not depend on the one that is measured: keep the nn.Parameter, and write "
            "to it with copy_ under torch.no_grad()"
        )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())


@contextmanager
def swapped(model: nn.Module, values: dict[int, Tensor]) -> Iterator[None]:
    """Put other tensors in place of parameters while the context lasts.

    `torch.func.functional_call` swaps a parameter once for each name it has, and so puts back the
    wrong tensor where one module stands under two names. Here every place is visited once.

    Args:
        model: The network.
        values: Id of a parameter -> tensor in its place.
    """
    places = [
        (module._parameters, key, parameter)
        for module in model.modules()
        for key, parameter in module._parameters.items()
        if parameter is not None and id(parameter) in values
    ]
    try:
        for held, key, parameter in places:
            held[key] = values[id(parameter)]  # type: ignore[assignment]
        yield
    finally:
        for held, key, parameter in places:
            held[key] = parameter


@contextmanager
def redrawn(model: nn.Module, seed: int) -> Iterator[None]:
    """Draw other parameters of the same size while the context lasts; restore them bit for bit.

    Writing through `.data` leaves autograd graphs of earlier passes valid: the values that they
    need are back when the context ends.
    """
    generator = torch.Generator().manual_seed(seed)
    held = [(p, p.detach().clone()) for p in model.parameters() if p.is_floating_point()]
    for parameter, value in held:
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        size = value.square().mean().sqrt() if value.numel() else value.sum()
        parameter.data.copy_(noise.to(value) * size)
    try:
        yield
    finally:
        for parameter, value in held:
            parameter.data.copy_(value)
