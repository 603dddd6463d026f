"""Whether what a plan adds has room on this machine, asked before anything is allocated."""

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.plan import Plan

UNIT = 200
"""Bytes that the numbering of one unit takes at least, beside its tensors: ids and positions."""


def check_room(model: nn.Module, groups: Mapping[str, UnitGroup], plan: Plan) -> None:
    """Refuse a plan whose grown tensors alone would fill more than the whole memory.

    A bound and no forecast: gradients, optimizers and activations come on top. It is there so that
    a slip of the keyboard is a message and not a machine that hangs.

    Args:
        model: The network as it is.
        groups: Its groups.
        plan: A plan that fits them.

    Raises:
        PlanError: Says how much the plan would take, and how much there is.
    """
    added = plan.added
    if not added:
        return
    new, on = _grown_bytes(model, groups, plan)
    new += UNIT * sum(added.values())
    room = _memory(on)
    if room is not None and new > room:
        units = ", ".join(f"{count:,} units to {name!r}" for name, count in added.items())
        raise PlanError(
            f"adding {units} would take at least {new / 2**30:,.0f} GiB, more than the "
            f"{room / 2**30:,.0f} GiB that {on} has: grow by fewer"
        )


def _grown_bytes(
    model: nn.Module, groups: Mapping[str, UnitGroup], plan: Plan
) -> tuple[int, torch.device]:
    """Bytes of every tensor that changes, as it would be, and the device of the largest."""
    tensors: dict[int, Tensor] = {}
    factors: dict[int, dict[int, float]] = {}  # a tensor may grow along both its axes
    for name, count in plan.added.items():
        group = groups[name]
        growth = 1 + (count - len(plan.removed.get(name, ()))) / group.width
        for member in group.members:
            module = model.get_submodule(member.layer)
            for axis in member.axes.side(member.side):
                tensor = getattr(module, axis.tensor, None)
                if tensor is not None:
                    tensors[id(tensor)] = tensor
                    factors.setdefault(id(tensor), {})[axis.dim] = growth
    total, largest, on = 0, 0.0, torch.device("cpu")
    for key, tensor in tensors.items():
        size = float(tensor.numel() * tensor.element_size())
        for factor in factors[key].values():
            size *= factor
        total += int(size)
        if size > largest:
            largest, on = size, tensor.device
    return total, on


def _memory(device: torch.device) -> int | None:
    """Bytes that a device has in all; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None
