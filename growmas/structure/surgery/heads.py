"""Heads that all tasks share: a layer whose outputs are classes gets rows for new classes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import PlanError, SurgeryError
from growmas.failures import failure
from growmas.structure.layers.axes import LayerAxes, axes_of, why_fixed
from growmas.structure.surgery.tensor_swap import TensorSwap
from growmas.structure.surgery.transaction import Site, carry_out
from growmas.structure.surgery.verification import TOLERANCE
from growmas.structure.units.edit import Edit
from growmas.structure.units.groups import Member, UnitGroup
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.plan import Plan
from growmas.structure.units.reindexing import Reindexing
from growmas.structure.views.overrides import Override, Place

INITS = ("zero", "uniform")


def head_of(model: nn.Module, layer: str, groups: Mapping[str, UnitGroup]) -> UnitGroup:
    """Return the classes of a head as a group of units, all born in the first task.

    Raises:
        PlanError: The layer cannot be a head; the message says why.
    """
    try:
        module = model.get_submodule(layer)
    except AttributeError as error:
        last = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1:]
        hint = f"; its last Linear is {last[0]!r}" if last else ""
        raise PlanError(f"layer {layer!r} does not exist in the model{hint}") from error
    axes = axes_of(module)
    owner = next((g.name for g in groups.values() if (layer, "out") in _sides(g)), None)
    problem = ""
    if owner is not None:
        problem = f"other layers read it: grow it with Plan(grow={{{owner!r}: ...}})"
    elif axes is None:
        problem = why_fixed(module)
    elif not isinstance(module, nn.Linear | nn.modules.conv._ConvNd) or axes.out_parts > 1:
        problem = "a head is a Linear or a convolution that is not grouped"
    elif _tied(model, module, axes):
        problem = "its weight is tied to another layer's; untie it first"
    if problem or axes is None:
        raise PlanError(f"{layer!r} cannot be a head that grows: {problem}")
    classes = axes.channels(module, "out")
    member = Member(layer, "out", torch.arange(classes)[:, None], (1,), axes)
    return UnitGroup(layer, "classes", tuple(range(classes)), (0,) * classes, (member,), classes)


def plan_of(layer: str, classes: int) -> Plan:
    """Return the plan that adds classes to a head.

    Raises:
        PlanError: `classes` is not a positive integer.
    """
    if type(classes) is not int or classes < 1:
        raise PlanError(
            f"classes={classes!r}: expected the number of classes to add to {layer!r}, 1 or more"
        )
    reason = f"{classes} {'classes' if classes > 1 else 'class'} added to {layer!r}"
    return Plan(grow={layer: classes}, reason=reason)


@dataclass(frozen=True, eq=False)
class HeadStart:
    """Start values of a head's fresh rows.

    Attributes:
        init: "zero", or "uniform" for the layer's own default.
        bias: The bias of fresh rows; None leaves it to `init`.
        generator: Randomness, on the CPU; None takes torch's own.

    Raises:
        PlanError: An unknown word, or a bias that is not a number.
    """

    init: str
    bias: float | None
    generator: torch.Generator | None

    def __post_init__(self) -> None:
        """Refuse unknown words and biases that are not numbers."""
        if self.init not in INITS:
            known = ", ".join(map(repr, INITS))
            raise PlanError(f"init={self.init!r} is not known: expected {known}")
        bias: object = self.bias
        if bias is not None and (isinstance(bias, bool) or not isinstance(bias, int | float)):
            raise PlanError(
                f"bias={bias!r}: expected a number, or None for the bias that init= gives"
            )


def widen_head(head: UnitGroup, plan: Plan, start: HeadStart, site: Site) -> Edit:
    """Append fresh rows to a head: all of it, or nothing.

    Args:
        head: The classes of the head as they are.
        plan: How many classes are added.
        start: Values of the fresh rows.
        site: The network; its groups are the heads that have grown, and this one.

    Raises:
        SurgeryError: Old logits would not stay, or a follower cannot follow.
    """
    classes = plan.grow[head.name]
    expected = [] if site.outputs is None else site.outputs()
    # zero rows draw from a generator of their own: torch's random state stays as it is
    generator = torch.Generator() if start.init == "zero" else start.generator

    def finish(new: Reindexing, swap: TensorSwap, undo: ExitStack) -> Edit:
        _fill_rows(site.model, head, classes, start)
        if site.outputs is not None:
            check_head(expected, site.outputs, head.name, classes)
        return Edit(plan, site.task, swap.changes, {}, {}, {}, swap.swapped, swap.sizes)

    return carry_out(site, plan, generator, finish)


@torch.no_grad()
def _fill_rows(model: nn.Module, head: UnitGroup, classes: int, start: HeadStart) -> None:
    module = model.get_submodule(head.name)
    for axis in head.members[0].axes.out:
        tensor = getattr(module, axis.tensor, None)
        if tensor is None:
            continue
        fresh = tensor.narrow(axis.dim, head.width, classes)
        if start.init == "zero":
            fresh.zero_()
        if axis.tensor == "bias" and start.bias is not None:
            fresh.fill_(start.bias)


def check_head(
    expected: Sequence[Tensor], run: Callable[[], Sequence[Tensor]], layer: str, classes: int
) -> None:
    """Check that a head that grew gives the old logits, and more of them.

    Args:
        expected: Outputs of the network before.
        run: Returns the outputs of the network now.
        layer: The head.
        classes: Number of rows that were added.

    Raises:
        SurgeryError: The forward pass fails, old logits move beyond rounding, or no output is
            wider.
    """
    more = f"with {classes} more rows in {layer!r}"
    undone = "nothing was changed"
    try:
        found = run()
    except Exception as error:
        raise SurgeryError(
            f"{more} the forward pass fails ({failure(error)}); {undone}. The model fixes the "
            "number of classes outside the head, for instance in view() or reshape()"
        ) from error
    pairs = [_as_before(old, new, classes) for old, new in zip(expected, found, strict=False)]
    if len(found) != len(expected) or not any(wider for _, wider in pairs):
        raise SurgeryError(
            f"{more} no output of the model is wider, so {layer!r} is not a head; {undone}"
        )
    for old, (new, _) in zip(expected, pairs, strict=True):
        if new.shape != old.shape:
            raise SurgeryError(
                f"{more} an output of shape {list(old.shape)} becomes {list(new.shape)}; {undone}"
            )
        worst = float((new - old).abs().max()) if old.numel() else 0.0
        largest = float(old.abs().max()) if old.numel() else 0.0
        if not worst <= TOLERANCE.get(old.dtype, 5e-2) * max(largest, 1e-3):
            raise SurgeryError(
                f"{more} old logits would move by {worst:.3g} where they reach {largest:.3g}; "
                f"{undone}. The model mixes its classes, as a softmax does: let it return logits"
            )


def _as_before(old: Tensor, new: Tensor, classes: int) -> tuple[Tensor, bool]:
    """Return the part of an output that existed before, and True if there is more now."""
    dims = range(old.dim() if old.dim() == new.dim() else 0)
    wider = [dim for dim in dims if new.shape[dim] == old.shape[dim] + classes]
    return (new.narrow(wider[0], 0, old.shape[wider[0]]), True) if wider else (new, False)


def narrowed(
    heads: Mapping[str, UnitGroup], task: int, *, own: bool = False
) -> dict[Place, Override]:
    """Return overrides that reduce heads to the classes they had at a task.

    Gradients reach the rows that remain.

    Args:
        heads: The heads that have grown.
        task: Index of the task.
        own: True keeps only the classes that came with the task, of heads in which some did.
    """
    found: dict[Place, Override] = {}
    for layer, head in heads.items():
        count = sum(birth <= task for birth in head.births)
        first = sum(birth < task for birth in head.births) if own else 0
        first = first if first < count else 0
        for axis in head.members[0].axes.out if count - first < head.width else ():
            found[layer, axis.tensor] = _range(axis.dim, first, count)
    return found


def _range(dim: int, first: int, count: int) -> Override:
    def stand_in(tensor: Any) -> Any:
        if tensor is None:
            return None
        stop = min(count, tensor.shape[dim])
        return tensor.narrow(dim, min(first, stop), stop - min(first, stop))

    return stand_in


def _sides(group: UnitGroup) -> set[tuple[str, str]]:
    return {(member.layer, member.side) for member in group.members}


def _tied(model: nn.Module, module: nn.Module, axes: LayerAxes) -> bool:
    slots = Inventory(model)
    held = [getattr(module, axis.tensor, None) for axis in axes.out]
    return any(len(slots.slots[slots.names[id(t)]]) > 1 for t in held if t is not None)
