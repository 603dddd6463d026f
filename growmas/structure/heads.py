"""One shared head that grows: a layer whose outputs are classes gets rows for new ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import PlanError, SurgeryError
from growmas.structure.axes import LayerAxes, axes_of, why_fixed
from growmas.structure.groups import Member, UnitGroup
from growmas.structure.inventory import Inventory
from growmas.structure.plan import Plan
from growmas.structure.reindexing import reindexing
from growmas.structure.standins import Place, StandIn
from growmas.structure.surgery import Incision, cut, side_lengths
from growmas.structure.verification import TOLERANCE

INITS = ("zero", "uniform")


def head_of(model: nn.Module, layer: str, groups: Mapping[str, UnitGroup]) -> UnitGroup:
    """The classes of a head as a group of units of their own, all there from the first task on.

    Raises:
        PlanError: It is no layer that could be a head; the message says why.
    """
    try:
        module = model.get_submodule(layer)
    except AttributeError as error:
        last = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1:]
        hint = f"; did you mean {last[0]!r}?" if last else ""
        raise PlanError(f"no layer {layer!r} in the model{hint}") from error
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
    """The plan that adds classes to a head.

    Raises:
        PlanError: Not a number of classes.
    """
    if type(classes) is not int or classes < 1:
        raise PlanError(f"classes={classes!r}: expected how many to add to {layer!r}, at least 1")
    reason = f"{classes} {'classes' if classes > 1 else 'class'} added to {layer!r}"
    return Plan(grow={layer: classes}, reason=reason)


def check_start(init: str, bias: float | None) -> None:
    """Refuse a way for fresh rows to start that is not known.

    Raises:
        PlanError: Names it.
    """
    if init not in INITS:
        raise PlanError(f"init={init!r} is not known: give {', '.join(map(repr, INITS))}")
    if bias is not None and (isinstance(bias, bool) or not isinstance(bias, int | float)):
        raise PlanError(f"bias={bias!r}: expected a number, or None for that of `init`")


def add_rows(
    model: nn.Module,
    head: UnitGroup,
    plan: Plan,
    task: int,
    init: str,
    bias: float | None,
    generator: torch.Generator | None,
) -> tuple[UnitGroup, Incision]:
    """Put fresh rows behind the head's last; see `Structure.grow_head`."""
    inventory = Inventory(model)
    groups = {head.name: head}
    new = reindexing(groups, plan, side_lengths(inventory, [head]), task)
    # zeros draw no random numbers of anybody's
    drawing = torch.Generator() if init == "zero" else generator
    incision = cut(inventory, [head], new.sources, drawing)
    module = model.get_submodule(head.name)
    with torch.no_grad():
        for axis in head.members[0].axes.out:
            tensor = getattr(module, axis.tensor, None)
            if tensor is None:
                continue
            fresh = tensor.narrow(axis.dim, head.width, plan.grow[head.name])
            if init == "zero":
                fresh.zero_()
            if axis.tensor == "bias" and bias is not None:
                fresh.fill_(bias)
    return new.groups[head.name], incision


def check_head(
    expected: Sequence[Tensor], run: Callable[[], Sequence[Tensor]], layer: str, classes: int
) -> None:
    """Compare what the outputs had before a head grew with what it was.

    Args:
        expected: Outputs of the network before.
        run: Gives the outputs of the network now.
        layer: The head.
        classes: How many rows it got.

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
            f"{more} the forward pass fails ({error}); {undone}. The model fixes the number of "
            "classes outside the head, for instance in view() or reshape()"
        ) from error
    pairs = [_as_before(old, new, classes) for old, new in zip(expected, found, strict=False)]
    if len(found) != len(expected) or not any(wider for _, wider in pairs):
        raise SurgeryError(f"{more} no output of the model is wider, so it is no head; {undone}")
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
    """What of an output was there before, and whether there is more now."""
    dims = range(old.dim() if old.dim() == new.dim() else 0)
    wider = [dim for dim in dims if new.shape[dim] == old.shape[dim] + classes]
    return (new.narrow(wider[0], 0, old.shape[wider[0]]), True) if wider else (new, False)


def narrowed(heads: Mapping[str, UnitGroup], task: int) -> dict[Place, StandIn]:
    """Let heads have the classes alone that they had at a task; gradients reach their rows."""
    found: dict[Place, StandIn] = {}
    for layer, head in heads.items():
        count = sum(birth <= task for birth in head.births)
        for axis in head.members[0].axes.out if count < head.width else ():
            found[layer, axis.tensor] = _first(axis.dim, count)
    return found


def _first(dim: int, count: int) -> StandIn:
    def stand_in(tensor: Any) -> Any:
        return None if tensor is None else tensor.narrow(dim, 0, min(count, tensor.shape[dim]))

    return stand_in


def _sides(group: UnitGroup) -> set[tuple[str, str]]:
    return {(member.layer, member.side) for member in group.members}


def _tied(model: nn.Module, module: nn.Module, axes: LayerAxes) -> bool:
    slots = Inventory(model)
    held = [getattr(module, axis.tensor, None) for axis in axes.out]
    return any(len(slots.slots[slots.names[id(t)]]) > 1 for t in held if t is not None)
