"""The change itself: new tensors into the model, and back out again if anything is wrong."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.axes import LayerAxes
from growmas.structure.edit import AxisChange, gathered, reindexed
from growmas.structure.groups import UnitGroup
from growmas.structure.initialisation import fill_fresh
from growmas.structure.inventory import Inventory, Slot
from growmas.structure.placement import placements
from growmas.structure.plan import Plan
from growmas.structure.reindexing import LayerSide, Reindexing, reindexing
from growmas.structure.successor import in_place_of


def side_lengths(inventory: Inventory, groups: Iterable[UnitGroup]) -> dict[LayerSide, int]:
    """Number of channels on every layer side that a group occupies."""
    return {
        (member.layer, member.side): member.axes.channels(
            inventory.modules[member.layer], member.side
        )
        for group in groups
        for member in group.members
    }


def reordering(
    inventory: Inventory, groups: Mapping[str, UnitGroup], plan: Plan, task: int
) -> Reindexing:
    """The order of units and channels after a plan that fits; see `reindexing`."""
    lengths = side_lengths(inventory, [groups[name] for name in plan.groups])
    simple = Plan(prune=plan.removed, grow=plan.added)
    return reindexing(groups, simple, lengths, task)


def tensor_changes(
    inventory: Inventory, sources: Mapping[LayerSide, Tensor], axes: Mapping[str, LayerAxes]
) -> dict[str, tuple[AxisChange, ...]]:
    """The axis changes of every parameter and buffer, by qualified name.

    Raises:
        SurgeryError: Tied layers would need different orders of the same axis.
    """
    found: dict[str, dict[int, AxisChange]] = {}
    for (layer, side), source in sources.items():
        module = inventory.modules[layer]
        length = axes[layer].channels(module, side)
        alike: dict[Any, AxisChange] = {}  # a weight's rows and its bias move alike
        for axis in axes[layer].side(side):
            tensor = getattr(module, axis.tensor, None)
            if tensor is None:
                continue
            name = inventory.names[id(tensor)]
            kind = (axis.dim, axis.role, axis.fresh, axis.blocks, axis.shared)
            change = alike.get(kind)
            if change is None:
                order = axis.source(source, length)
                change = alike[kind] = AxisChange(axis.dim, order, axis.role, axis.fresh)
            known = found.setdefault(name, {}).setdefault(axis.dim, change)
            if known is not change and not torch.equal(known.source, change.source):
                raise SurgeryError(
                    f"{name!r} is tied, and its uses would need different orders on axis "
                    f"{axis.dim}; untie it first"
                )
            if change.role == "in":  # with tied weights the consumer's zeros win
                found[name][axis.dim] = change
    return {name: tuple(by_dim.values()) for name, by_dim in found.items()}


@dataclass
class Incision:
    """New tensors and sizes put into a model, and what they replaced.

    Attributes:
        changes: Qualified parameter or buffer name -> changes of its axes.
        swapped: Qualified parameter name -> the old parameter and the one in its place.
        sizes: Qualified attribute -> its new value, for every attribute that was set.
        tensors: Every place that got another tensor, and the tensor that was there.
        attributes: Every attribute that got another value, and the value that was there.
    """

    changes: Mapping[str, tuple[AxisChange, ...]]
    swapped: dict[str, tuple[nn.Parameter, nn.Parameter]] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    tensors: list[tuple[Slot, Tensor]] = field(default_factory=list)
    attributes: list[tuple[Slot, Any]] = field(default_factory=list)

    def set_attribute(self, layer: str, module: nn.Module, attribute: str, value: Any) -> None:
        """Give an attribute of a layer another value, which `undo` takes back."""
        self.attributes.append(((module, attribute), getattr(module, attribute)))
        self.sizes[".".join(filter(None, [layer, attribute]))] = value
        setattr(module, attribute, value)

    def undo(self) -> None:
        """Put the old objects back: the model is exactly what it was."""
        for (module, attribute), value in reversed(self.attributes):
            setattr(module, attribute, value)
        for slot, tensor in self.tensors:
            _put(slot, tensor)


def cut(
    inventory: Inventory,
    groups: Iterable[UnitGroup],
    sources: Mapping[LayerSide, Tensor],
    generator: torch.Generator | None,
) -> Incision:
    """Swap every tensor that changes for a re-indexed one; fresh entries are initialised.

    Parameters become new `Parameter` objects, so that a graph that is still alive is not
    disturbed and undoing is exact; gradients are re-indexed with them.

    Args:
        inventory: Of the model as it is; it is out of date afterwards.
        groups: All groups of the model.
        sources: The new order of the channels of every layer side that changes.
        generator: Randomness of fresh rows, on the CPU; None takes torch's own.

    Raises:
        SurgeryError: A parameter has hooks, which a new object would lose.
    """
    axes = {member.layer: member.axes for group in groups for member in group.members}
    changes = tensor_changes(inventory, sources, axes)
    _check_no_hooks({name: inventory.tensors[name] for name in changes})
    incision = Incision(changes)
    try:
        for layer, attribute, size in _new_sizes(inventory, sources, axes):
            incision.set_attribute(layer, inventory.modules[layer], attribute, size)
        fresh = {}
        for name, change in changes.items():
            old = inventory.tensors[name]
            new = fresh[name] = _successor(old, change)
            if isinstance(old, nn.Parameter) and isinstance(new, nn.Parameter):
                incision.swapped[name] = (old, new)
            for slot in inventory.slots[name]:
                incision.tensors.append((slot, old))
                _put(slot, new)
        fill_fresh(inventory.modules, fresh, changes, generator)
    except BaseException:
        incision.undo()
        raise
    return incision


@contextmanager
def silenced(
    model: nn.Module, groups: Iterable[UnitGroup], units: Mapping[str, set[int]]
) -> Iterator[None]:
    """Leave units out of the forward pass: the columns of their consumers read as zero.

    Nothing is written: while a consumer, or a module that holds one, runs its `forward`, masked
    copies stand in for the consumers' weights, through which gradients flow to the parameters.
    Between calls the parameters are in place, for importance, anchors, optimizers and
    `state_dict`.
    """
    masks: dict[Slot, dict[int, list[Tensor]]] = {}
    paths: dict[nn.Module, None] = {}
    for group in groups:
        if not units.get(group.name):
            continue
        doomed = [i for i, unit in enumerate(group.unit_ids) if unit in units[group.name]]
        for place in placements(model, group, ["in"]):
            dims = masks.setdefault((place.module, place.axis.tensor), {})
            dims.setdefault(place.axis.dim, []).append(place.positions[doomed].flatten())
            parts = place.layer.split(".")
            names = [".".join(parts[:length]) for length in range(len(parts) + 1)]
            paths |= dict.fromkeys(model.get_submodule(name) for name in names)
    entered = _Entered(masks)
    before = {module: vars(module).get("forward") for module in paths}
    try:
        for module in paths:
            module.__dict__["forward"] = entered.around(module.forward)
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


class _Entered:
    """Puts masked copies of weights in place while any of the wrapped calls runs."""

    def __init__(self, masks: Mapping[Slot, Mapping[int, list[Tensor]]]) -> None:
        self.masks = masks
        self.depth = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.depth:
                return call(*args, **kwargs)
            held = {(m, name): m._parameters[name] for m, name in self.masks}
            self.depth += 1
            try:
                for slot, dims in self.masks.items():
                    weight: Any = held[slot]
                    for dim, positions in dims.items():
                        where = torch.cat(positions).to(weight.device)
                        weight = weight.index_fill(dim, where, 0.0)
                    _put(slot, weight)
                return call(*args, **kwargs)
            finally:
                self.depth -= 1
                for slot, weight in held.items():
                    _put(slot, weight)

        return forward


def _new_sizes(
    inventory: Inventory, sources: Mapping[LayerSide, Tensor], axes: Mapping[str, LayerAxes]
) -> list[tuple[str, str, Any]]:
    """Layer, attribute and new value of every attribute that says how many channels there are."""
    return [
        (
            layer,
            size.name,
            size.value(inventory.modules[layer], len(source)) if size.value else len(source),
        )
        for (layer, side), source in sources.items()
        for size in axes[layer].sizes(side)
    ]


def _successor(old: Tensor, changes: tuple[AxisChange, ...]) -> Tensor:
    new = gathered(old.detach(), changes)  # `fill_fresh` writes the rest
    return in_place_of(old, new, lambda tensor: reindexed(tensor, changes))


def _check_no_hooks(tensors: Mapping[str, Tensor]) -> None:
    kinds = ("_backward_hooks", "_post_accumulate_grad_hooks")
    hooked = [n for n, t in tensors.items() if any(getattr(t, kind, None) for kind in kinds)]
    if hooked:
        raise SurgeryError(
            f"{', '.join(map(repr, hooked))} has gradient hooks, which would be lost with the "
            "old parameter: remove them before surgery and register them again afterwards"
        )


def _put(slot: Slot, tensor: Tensor | None) -> None:
    module, attribute = slot
    if attribute in module._buffers:
        module._buffers[attribute] = tensor
    else:
        module._parameters[attribute] = tensor  # type: ignore[assignment]
    if isinstance(module, nn.RNNBase):  # which keeps a list of its weights besides
        module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]
