"""The size that a plan leads to, counted from shapes alone."""

import math
from typing import NamedTuple

from torch import nn

from growmas.structure import Plan, Structure


class NetworkSize(NamedTuple):
    """Parameters of a network, and living units over all its groups."""

    parameters: int
    units: int


def size_after(structure: Structure, plan: Plan) -> NetworkSize:
    """Return the size of the network with `plan` carried out.

    It gives the numbers of `structure.cost(plan)`, but neither copies the model nor runs it: the
    number of channels on each side of a layer gives the new shape of its tensors. It therefore
    does not notice a plan with which the network no longer runs; carrying the plan out does.

    Raises:
        PlanError: The plan does not fit the network.
    """
    plan.check(structure.groups, structure.fixed)
    removed, added = plan.removed, plan.added
    units = sum(group.width for group in structure.groups.values())
    channels: dict[tuple[str, str], int] = {}
    shapes: dict[int, tuple[nn.Parameter, list[int]]] = {}  # by identity: a tied one counts once
    for name in plan.groups:
        more = added.get(name, 0) - len(removed.get(name, ()))
        units += more
        for member in structure.groups[name].members:
            module, side = structure.model.get_submodule(member.layer), member.side
            before = channels.get((member.layer, side), member.axes.channels(module, side))
            # a fresh unit takes as many channels as each of the others
            count = channels[member.layer, side] = before + more * member.positions.shape[1]
            for axis in member.axes.side(side):
                tensor = getattr(module, axis.tensor, None)
                if isinstance(tensor, nn.Parameter):
                    _, shape = shapes.setdefault(id(tensor), (tensor, list(tensor.shape)))
                    shape[axis.dim] = count * axis.blocks // axis.shared
    more = sum(math.prod(shape) - tensor.numel() for tensor, shape in shapes.values())
    return NetworkSize(structure.parameters + more, units)
