"""Tensors that stand in for a model's own while it runs; nothing of the model is written."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from growmas.errors import SurgeryError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Slot, put, tensor_at
from growmas.structure.units.placement import placements

Override = Callable[[Tensor], Tensor]
"""From the tensor in its place to the one that stands in for it; the same for none."""

Place = tuple[str, str]
"""Qualified name of a layer, and the name of one of its tensors."""


@contextmanager
def overridden(model: nn.Module, makers: Mapping[Place, Override]) -> Iterator[None]:
    """Let other tensors be read in place of a model's own while the context lasts.

    While a layer, or a module that holds one, runs its `forward`, the stand-ins are in place;
    between calls the model's own tensors are, for importance, anchors, optimizers and
    `state_dict`. Contexts nest: a stand-in of the outer one is made from that of the inner one.

    Several threads may run the model meanwhile, if all of them take gradients or none does.
    """
    modules = modules_of(model)
    calls = _Calls({(modules[layer], tensor): make for (layer, tensor), make in makers.items()})
    names = {name for layer in {layer for layer, _ in makers} for name in _above(layer)}
    paths = dict.fromkeys(modules[name] for name in names)
    before = {module: vars(module).get("forward") for module in paths}
    masked = [make for make in makers.values() if isinstance(make, MaskedWeight)]

    def stepped(*_: Any) -> None:
        for make in masked:
            make.drop()

    steps = register_optimizer_step_post_hook(stepped)
    try:
        for module in paths:
            module.__dict__["forward"] = _Forward(calls, module)
        yield
    finally:
        steps.remove()
        for module, forward in before.items():
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name -> module, a module with several names under each."""
    return dict(model.named_modules(remove_duplicate=False))


def _above(layer: str) -> Iterator[str]:
    """Names of a layer and of all modules that hold it, the model's own, "", among them."""
    parts = layer.split(".")
    return (".".join(parts[:length]) for length in range(len(parts) + 1))


class _Calls:
    """Puts stand-ins in place while any of the wrapped calls runs."""

    def __init__(self, makers: Mapping[Slot, Override]) -> None:
        self.makers = makers
        self.running = 0
        self.own: dict[Slot, Tensor] = {}
        self.lock = Lock()

    def enter(self) -> None:
        with self.lock:
            if not self.running:
                self.own = {slot: tensor_at(slot) for slot in self.makers}
                try:
                    for slot, make in self.makers.items():
                        put(slot, make(self.own[slot]))
                except BaseException:
                    self.restore()
                    raise
            self.running += 1

    def leave(self) -> None:
        with self.lock:
            self.running -= 1
            if not self.running:
                self.restore()

    def restore(self) -> None:
        for slot, tensor in self.own.items():
            put(slot, tensor)
        self.own = {}


class _Forward:
    """A module's `forward` with stand-ins in place; copies of the module get the one it had."""

    def __init__(self, calls: _Calls, module: nn.Module) -> None:
        self.calls = calls
        self.module = module
        self.call: Callable[..., Any] = module.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.enter()
        try:
            return self.call(*args, **kwargs)
        finally:
            self.calls.leave()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self.module) not in memo:
            raise SurgeryError(
                f"a {type(self.module).__name__} cannot be copied inside a view: leave it first"
            )
        return copy.deepcopy(self.call, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.call,)


def _itself(call: Callable[..., Any]) -> Callable[..., Any]:
    return call


class MaskedWeight:
    """Copies of a weight with some of its entries at zero, through which gradients flow to it.

    Where no gradient is taken, the copy is kept for the next call, until the parameter is another
    or was changed in place. Changes through `.data` are not seen by torch's version counter, so
    a call that takes gradients, as training does before such a change, drops the copy too. Nor
    are those of fused optimizers seen: every step of an optimizer drops it.
    """

    def __init__(self) -> None:
        self.positions: dict[int, list[Tensor]] = {}
        self._made: tuple[Tensor, tuple[Any, ...], Tensor] | None = None

    def add(self, dim: int, positions: Tensor) -> None:
        """Put the entries at `positions` along axis `dim` to zero as well."""
        self.positions.setdefault(dim, []).append(positions)

    def drop(self) -> None:
        """Make the copy anew at the next call."""
        self._made = None

    def __call__(self, weight: Tensor) -> Tensor:
        """The masked copy."""
        if not _is_still(weight):
            self._made = None
            return self._copy(weight)
        state = (weight._version, weight.data_ptr(), torch.is_inference_mode_enabled())
        if self._made is None or self._made[0] is not weight or self._made[1] != state:
            self._made = (weight, state, self._copy(weight))
        return self._made[2]

    def _copy(self, weight: Tensor) -> Tensor:
        for dim, positions in self.positions.items():
            where = torch.cat(positions).to(weight.device)
            self.positions[dim] = [where]  # joined and moved once
            weight = weight.index_fill(dim, where, 0.0)
        return weight


def _is_still(weight: Tensor) -> bool:
    """Whether no gradient is taken with respect to it, and torch counts the changes of it."""
    return (
        isinstance(weight, nn.Parameter)
        and not (weight.requires_grad and torch.is_grad_enabled())
        and not weight.is_inference()
        and not torch.compiler.is_compiling()
    )


def unit_masks(
    model: nn.Module, groups: Iterable[UnitGroup], units: Mapping[str, set[int]]
) -> dict[Place, Override]:
    """Leave units out of the forward pass: the columns of their consumers read as zero."""
    masks: dict[Place, MaskedWeight] = {}
    modules = modules_of(model)
    for group in groups:
        if not units.get(group.name):
            continue
        doomed = [i for i, unit in enumerate(group.unit_ids) if unit in units[group.name]]
        for place in placements(model, group, ["in"], modules=modules):
            masked = masks.setdefault((place.layer, place.axis.tensor), MaskedWeight())
            masked.add(place.axis.dim, place.positions[doomed].flatten())
    return dict(masks)


@contextmanager
def masked(
    model: nn.Module, groups: Iterable[UnitGroup], units: Mapping[str, set[int]]
) -> Iterator[None]:
    """Leave units out while the context lasts; see `overridden`."""
    with overridden(model, unit_masks(model, groups, units)):
        yield
