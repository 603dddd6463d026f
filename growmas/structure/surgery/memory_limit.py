"""The memory that a plan needs, compared with the machine's before anything is allocated."""

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import module_at
from growmas.structure.units.plan import Plan

UNIT = 200
"""Least number of bytes for the ids and positions of one unit, not counting its tensors."""


def check_memory(model: nn.Module, groups: Mapping[str, UnitGroup], plan: Plan) -> None:
    """Refuse a plan whose grown tensors alone would need more than the whole memory.

    This is a lower bound: gradients, optimizer state and activations come on top. It turns a typing
    error (8000000 units) into a message.

    Args:
        model: The network as it is.
        groups: Its groups.
        plan: A plan that fits them.

    Raises:
        PlanError: Names the memory that the plan needs and the memory that exists.
    """
    added = plan.added
    if not added:
        return
    new, on = _grown_bytes(model, groups, plan)
    new += UNIT * sum(added.values())
    available = _memory(on)
    if available is not None and new > available:
        units = ", ".join(f"{count:,} units to {name!r}" for name, count in added.items())
        raise PlanError(
            f"adding {units} would take at least {new / 2**30:,.0f} GiB, more than the "
            f"{available / 2**30:,.0f} GiB that {on} has: grow by fewer"
        )


def _grown_bytes(
    model: nn.Module, groups: Mapping[str, UnitGroup], plan: Plan
) -> tuple[int, torch.device]:
    """Return the bytes of all changing tensors after the plan, and the device of the largest."""
    tensors: dict[int, Tensor] = {}
    factors: dict[int, dict[int, float]] = {}  # a tensor may grow along both its axes
    for name, count in plan.added.items():
        group = groups[name]
        growth = 1 + (count - len(plan.removed.get(name, ()))) / group.width
        for member in group.members:
            module = module_at(model, member.layer)
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
    """Return the total bytes of a device, or None if that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None
