"""Overrides: other tensors that a model reads while it runs; the model itself is not written to.

A worked example. Between calls, and for everything that looks at parameters (importance, anchors,
optimizers, `state_dict`), the model has its own tensors. Only while it runs, the override is there:

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
    >>> own = net[1].weight
    >>> with overridden(net, {("1", "weight"): lambda weight: 0 * weight}):
    ...     print(bool(net(torch.rand(4, 2)).any()), net[1].weight is own)
    False True

A view is made of such overrides: `unit_masks` gives copies of the weights that read younger units,
with the columns of those units at zero.

    >>> import growmas
    >>> groups = growmas.Structure(net, torch.rand(4, 2)).groups.values()
    >>> masks = unit_masks(net, groups, {"0": {2}})
    >>> {place: mask(torch.ones(1, 3)).tolist() for place, mask in masks.items()}
    {('1', 'weight'): [[1.0, 1.0, 0.0]]}

How it works: each layer with an override, and each module that holds one, gets an instance
attribute `forward` that puts the overrides in place, calls the `forward` of before, and restores
the model's own tensors. The holders are wrapped too because a module may read a weight of a
submodule without calling it. Calls nest: a counter tells the outermost one, which does the work.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from growmas.errors import SurgeryError
from growmas.structure.layers.normalisation import RowLengths
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Slot, put, tensor_at
from growmas.structure.units.placement import placements

Override = Callable[[Tensor], Tensor]
"""Function from the model's own tensor to the one that is read instead."""

Place = tuple[str, str]
"""Qualified name of a layer, and the name of one of its tensors."""


@contextmanager
def overridden(model: nn.Module, overrides: Mapping[Place, Override]) -> Iterator[None]:
    """Let the model read other tensors than its own while the context lasts.

    Overrides are in place while a layer, or a module that holds one, runs its `forward`; between
    calls the model has its own tensors. Contexts nest: an override of the outer context is made
    from that of the inner one.

    Only code in the context of the caller may run the model meanwhile, and threads or coroutines
    that run in a copy of it (`contextvars.copy_context().run`), if all of them take gradients or
    none does. Calls from elsewhere would read the overrides too: they are refused.

    Raises:
        SurgeryError: By such calls from elsewhere.
    """
    modules = modules_of(model)
    calls = _Calls({(modules[layer], name): make for (layer, name), make in overrides.items()})
    names = {name for layer in {layer for layer, _ in overrides} for name in _holders(layer)}
    wrapped = dict.fromkeys(modules[name] for name in names)
    before = {module: vars(module).get("forward") for module in wrapped}
    masks = [override for override in overrides.values() if isinstance(override, MaskedWeight)]

    def after_step(*_: Any) -> None:
        for mask in masks:
            mask.drop()

    steps = register_optimizer_step_post_hook(after_step)
    _entered.set((*_entered.get(), calls))
    try:
        for module in wrapped:
            module.__dict__["forward"] = _Forward(calls, module)
        yield
    finally:
        _entered.set(tuple(each for each in _entered.get() if each is not calls))
        steps.remove()
        for module, forward in before.items():
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules by qualified name; a module with several names is under each."""
    return dict(model.named_modules(remove_duplicate=False))


def _holders(layer: str) -> Iterator[str]:
    """Yield the names of a layer and of all modules that hold it, from the model, "", down."""
    parts = layer.split(".")
    return (".".join(parts[:length]) for length in range(len(parts) + 1))


class _Calls:
    """Puts overrides in place while at least one of the wrapped calls runs."""

    def __init__(self, overrides: Mapping[Slot, Override]) -> None:
        self.overrides = overrides
        self.running = 0
        self.own: dict[Slot, Tensor] = {}
        self.lock = Lock()

    def enter(self) -> None:
        if self not in _entered.get() and not _in_backward():
            raise SurgeryError(
                "another thread or coroutine holds a view of this model, and a view changes the "
                "model: call it after that view, give each thread a network of its own with "
                "structure.extract(task), or share the view by running in a copy of its context, "
                "contextvars.copy_context().run(model, inputs)"
            )
        with self.lock:
            if not self.running:
                self.own = {slot: tensor_at(slot) for slot in self.overrides}
                try:
                    for slot, override in self.overrides.items():
                        put(slot, override(self.own[slot]))
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


_entered: ContextVar[tuple[_Calls, ...]] = ContextVar("entered", default=())
"""The overrides that this context has put in place."""


def _in_backward() -> bool:
    """Return True in a backward pass, whose threads run activation checkpoints again."""
    return torch._C._current_graph_task_id() != -1


class _Forward:
    """A module's `forward` with the overrides in place."""

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

    # A copy of the model, by deepcopy or pickle, must not put overrides into the original: copies
    # get the `forward` of before. That is bound to the module, so `deepcopy` must find the module's
    # copy in `memo`; it does not if a class has a `__deepcopy__` that does not note it there.
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self.module) not in memo:
            raise SurgeryError(
                f"a {type(self.module).__name__} cannot be copied inside a view: leave it first"
            )
        return copy.deepcopy(self.call, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.call,)


def _same(call: Callable[..., Any]) -> Callable[..., Any]:
    return call


class MaskedWeight:
    """An override: a copy of a weight with some entries at zero, through which gradients flow.

    Without gradients, the copy is kept for the next call until the parameter is another object or
    was changed in place. Torch's version counter does not see changes through `.data`, so a call
    that takes gradients, which training makes before such a change, drops the copy too. It does
    not see those of fused optimizers either, so every step of an optimizer drops the copy.
    """

    def __init__(self) -> None:
        self.positions: dict[int, list[Tensor]] = {}
        self._made: tuple[Tensor, tuple[Any, ...], Tensor] | None = None

    def add(self, dim: int, positions: Tensor) -> None:
        """Set the entries at `positions` along axis `dim` to zero as well."""
        self.positions.setdefault(dim, []).append(positions)

    def drop(self) -> None:
        """Make a new copy at the next call."""
        self._made = None

    def __call__(self, weight: Tensor) -> Tensor:
        """Return the masked copy of `weight`."""
        if not _can_be_kept(weight):
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


class KeptLengths:
    """An override: the lengths of rows of which some columns are masked, as of the others alone."""

    def __init__(self, module: nn.Module, kept: RowLengths, mask: MaskedWeight) -> None:
        self._module, self._kept, self._mask = module, kept, mask

    def __call__(self, lengths: Tensor) -> Tensor:
        """Return the lengths that leave the columns as they are that are not masked."""
        rows = tensor_at((self._module, self._kept.rows))
        others = [dim for dim in range(rows.dim()) if dim != self._kept.dim]
        masked, whole = (
            torch.linalg.vector_norm(each, dim=others, keepdim=True)
            for each in (self._mask(rows), rows)
        )
        kept: Tensor = lengths * (masked / whole).view_as(lengths)
        return kept


def _can_be_kept(weight: Tensor) -> bool:
    """Return True if no gradient is taken through the copy and torch counts changes of the weight.

    Only copies of parameters are kept, not of what an override of an inner context gives.
    """
    return (
        isinstance(weight, nn.Parameter)
        and not (weight.requires_grad and torch.is_grad_enabled())
        and not weight.is_inference()
        and not torch.compiler.is_compiling()
    )


def unit_masks(
    model: nn.Module, groups: Iterable[UnitGroup], units: Mapping[str, set[int]]
) -> dict[Place, Override]:
    """Return overrides that mask units: the columns of their consumers read as zero.

    Args:
        model: The network.
        groups: Its groups.
        units: Group name -> ids of the units to leave out.
    """
    masks: dict[Place, MaskedWeight] = {}
    lengths: dict[Place, Override] = {}
    modules = modules_of(model)
    for group in groups:
        if not units.get(group.name):
            continue
        masked_out = [i for i, unit in enumerate(group.unit_ids) if unit in units[group.name]]
        for place in placements(model, group, ["in"], modules=modules):
            mask = masks.setdefault((place.layer, place.axis.tensor), MaskedWeight())
            mask.add(place.axis.dim, place.positions[masked_out].flatten())
            kept = place.axes.row_lengths
            if kept is not None:
                lengths[place.layer, kept.lengths] = KeptLengths(place.module, kept, mask)
    return {**lengths, **masks}  # the lengths are read before the rows are masked


@contextmanager
def masked(
    model: nn.Module, groups: Iterable[UnitGroup], units: Mapping[str, set[int]]
) -> Iterator[None]:
    """Leave units out of the forward pass while the context lasts, as `unit_masks` does."""
    with overridden(model, unit_masks(model, groups, units)):
        yield
