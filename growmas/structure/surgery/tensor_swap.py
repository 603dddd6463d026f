"""The swap of a model's tensors for re-indexed ones, which can be undone exactly.

Take `nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))`, remove unit 1 of group "0" and
add one. The new order of the three units is [0, 2, −1], −1 for the fresh one, and so

    0.weight [3, 4]  axis 0 by [0, 2, -1]    the fresh row is random
    0.bias   [3]     axis 0 by [0, 2, -1]    the fresh entry is random
    2.weight [2, 3]  axis 1 by [0, 2, -1]    the fresh column is zero

Each becomes a new `Parameter` in the same place; `TensorSwap` holds both, and undoing puts the old
object back. `nn.Parameter.data` is not assigned: torch refuses that while an autograd graph
is alive, and a pending loss must survive the edit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.initialisation.initialisation import fill_fresh
from growmas.structure.layers.axes import LayerAxes
from growmas.structure.units.edit import AxisChange, gathered, reindexed
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Inventory, Slot, put
from growmas.structure.units.plan import Plan
from growmas.structure.units.reindexing import LayerSide, Reindexing, reindexing
from growmas.structure.units.resized import resized


def side_lengths(inventory: Inventory, groups: Iterable[UnitGroup]) -> dict[LayerSide, int]:
    """Count the channels on every layer side that a group occupies."""
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
    """Return the order of units and channels after a plan that fits, see `reindexing`."""
    lengths = side_lengths(inventory, [groups[name] for name in plan.groups])
    return reindexing(groups, plan, lengths, task)


def tensor_changes(
    inventory: Inventory, sources: Mapping[LayerSide, Tensor], axes: Mapping[LayerSide, LayerAxes]
) -> dict[str, tuple[AxisChange, ...]]:
    """Return the axis changes of every parameter and buffer, by qualified name.

    Raises:
        SurgeryError: Tied layers would need different orders of the same axis.
    """
    found: dict[str, dict[int, AxisChange]] = {}
    alike: dict[Any, AxisChange] = {}  # rows, their biases and norms move alike
    by_source: dict[int, AxisChange] = {}
    for (layer, side), source in sources.items():
        module = inventory.modules[layer]
        length = axes[layer, side].channels(module, side)
        for axis in axes[layer, side].side(side):
            tensor = getattr(module, axis.tensor, None)
            if tensor is None:
                continue
            name = inventory.names[id(tensor)]
            how = (axis.dim, axis.role, axis.fresh, axis.blocks, axis.shared)
            kind = (id(source), length, *how)
            change = alike.get(kind)
            if change is None:
                order = axis.source(source, length)
                change = alike[kind] = AxisChange(axis.dim, order, axis.role, axis.fresh)
                change.share_runs(by_source.setdefault(id(order), change))
            known = found.setdefault(name, {}).setdefault(axis.dim, change)
            if known is not change and not torch.equal(known.source, change.source):
                raise SurgeryError(
                    f"{name!r} is tied, and its uses would need different orders on axis "
                    f"{axis.dim}; untie it first"
                )
            if change.role == "in":  # of tied weights, the consumer's zeros win
                found[name][axis.dim] = change
    return {name: tuple(by_dim.values()) for name, by_dim in found.items()}


@dataclass
class TensorSwap:
    """New tensors and sizes in a model, and those they replaced.

    Attributes:
        changes: Qualified parameter or buffer name -> changes of its axes.
        swapped: Qualified parameter name -> the old parameter and the one in its place.
        sizes: Qualified attribute -> its new value, for every attribute that was set.
        tensors: Every place that got another tensor, with the tensor it held before.
        attributes: Every attribute that got another value, with the value it had before.
        written: Every tensor that stays in its place and got other values, with those before.
    """

    changes: Mapping[str, tuple[AxisChange, ...]]
    swapped: dict[str, tuple[nn.Parameter, nn.Parameter]] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    tensors: list[tuple[Slot, Tensor]] = field(default_factory=list)
    attributes: list[tuple[Slot, Any]] = field(default_factory=list)
    written: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def set_attribute(self, layer: str, module: nn.Module, attribute: str, value: Any) -> None:
        """Set an attribute of a layer to a value that `undo` takes back."""
        self.attributes.append(((module, attribute), getattr(module, attribute)))
        self.sizes[".".join(filter(None, [layer, attribute]))] = value
        setattr(module, attribute, value)

    def multiply(self, tensor: Tensor, factor: Tensor) -> None:
        """Multiply a tensor in place, which `undo` takes back."""
        self.written.append((tensor, tensor.detach().clone()))
        with torch.no_grad():
            tensor.mul_(factor)

    def undo(self) -> None:
        """Put the old objects and values back, so that the model is exactly what it was."""
        with torch.no_grad():
            for tensor, before in reversed(self.written):
                tensor.copy_(before)
        for (module, attribute), value in reversed(self.attributes):
            setattr(module, attribute, value)
        for slot, tensor in self.tensors:
            put(slot, tensor)


def swap_tensors(
    inventory: Inventory,
    groups: Iterable[UnitGroup],
    sources: Mapping[LayerSide, Tensor],
    generator: torch.Generator | None,
) -> TensorSwap:
    """Swap every tensor that changes for a re-indexed one, and initialise its fresh entries.

    Gradients are re-indexed with their parameters.

    Args:
        inventory: Of the model as it is; out of date after the call.
        groups: All groups of the model.
        sources: The new order of the channels of every layer side that changes.
        generator: Randomness of fresh rows, on the CPU; None takes torch's own.

    Raises:
        SurgeryError: A parameter has hooks, which a new object would lose.
    """
    axes = {
        (member.layer, member.side): member.axes
        for group in groups
        if not group.sides.isdisjoint(sources)
        for member in group.members
    }
    changes = tensor_changes(inventory, sources, axes)
    _check_no_hooks({name: inventory.tensors[name] for name in changes})
    swap = TensorSwap(changes)
    try:
        for layer, attribute, size in _new_sizes(inventory, sources, axes):
            swap.set_attribute(layer, inventory.modules[layer], attribute, size)
        fresh = {}
        for name, change in changes.items():
            old = inventory.tensors[name]
            new = fresh[name] = _successor(old, change)
            if isinstance(old, nn.Parameter) and isinstance(new, nn.Parameter):
                swap.swapped[name] = (old, new)
            for slot in inventory.slots[name]:
                swap.tensors.append((slot, old))
                put(slot, new)
        fill_fresh(inventory.modules, fresh, changes, generator)
    except BaseException:
        swap.undo()
        raise
    return swap


def _new_sizes(
    inventory: Inventory, sources: Mapping[LayerSide, Tensor], axes: Mapping[LayerSide, LayerAxes]
) -> Iterator[tuple[str, str, Any]]:
    """Give layer, attribute and new value of every attribute that holds a number of channels.

    The values of one side are found together, from what the module has before. Of an attribute with
    several entries, which are sides, each is found when those before have been set.
    """
    for (layer, side), source in sources.items():
        module, length = inventory.modules[layer], len(source)
        sizes = axes[layer, side].sizes(side)
        yield from [
            (layer, size.name, size.value(module, length) if size.value else length)
            for size in sizes
        ]


def _successor(old: Tensor, changes: tuple[AxisChange, ...]) -> Tensor:
    new = gathered(old.detach(), changes)  # `fill_fresh` writes the rest
    return resized(old, new, lambda tensor: reindexed(tensor, changes))


def _check_no_hooks(tensors: Mapping[str, Tensor]) -> None:
    kinds = ("_backward_hooks", "_post_accumulate_grad_hooks")
    hooked = [n for n, t in tensors.items() if any(getattr(t, kind, None) for kind in kinds)]
    if hooked:
        raise SurgeryError(
            f"{', '.join(map(repr, hooked))} has gradient hooks, which would be lost with the "
            "old parameter: remove them before surgery and register them again afterwards"
        )
