"""Newborns: the fresh units of an edit, and the protocol of an initialisation for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from growmas.structure.units.edit import AxisTransfer
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import placements
from growmas.structure.units.plan import Plan


@dataclass(frozen=True, eq=False)
class Newborns:
    """The fresh units of an edit that is being made; their rows are random, their columns zero.

    An initialisation gets them, and writes their entries of the tensors in place.

    Attributes:
        model: The network, with its new tensors in place.
        groups: Group name -> the group as it is after the edit.
        born: Group name -> ids of the fresh units.
        generator: Randomness, on the CPU; None takes torch's own.
    """

    model: nn.Module
    groups: Mapping[str, UnitGroup]
    born: Mapping[str, tuple[int, ...]]
    generator: torch.Generator | None

    @torch.no_grad()
    def silence(self) -> None:
        """Set the rows to zero that have the role of columns, see `Member.reads`."""
        for name in self.born:
            if not any(member.reads for member in self.groups[name].members):
                continue  # it has none, as nearly always
            for place in placements(self.model, self.groups[name], ["in"]):
                if place.rows:
                    where = place.positions[self.indices(name)].flatten().to(place.tensor.device)
                    place.tensor.index_fill_(place.axis.dim, where, 0.0)

    def indices(self, group: str) -> list[int]:
        """Return the indices of a group's fresh units in its `unit_ids`."""
        return self.groups[group].indices(self.born.get(group, ()))


@dataclass(frozen=True, eq=False)
class Lineage:
    """The origin of fresh units, which an initialisation returns; empty for units without parents.

    Attributes:
        parents: Group name -> {new unit: the unit it was split from}; they go into the history.
        transfers: Qualified parameter or buffer name -> entries derived from others; importance
            and anchors are derived alike.
        mates: Group name -> families of fresh units whose effects add up to zero; an edit that
            removes a part of a family soon after changes the function.
    """

    parents: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    transfers: Mapping[str, tuple[AxisTransfer, ...]] = field(default_factory=dict)
    mates: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)


Fill = Callable[[Newborns], Lineage]
"""Function that writes fresh entries of the tensors in place, so that the function stays."""


@runtime_checkable
class Initialisation(Protocol):
    """An initialisation of fresh units: any object with this method, given as `init`.

    Example:
        >>> import torch, growmas
        >>> from growmas.structure import Lineage
        >>> class ZeroRows:
        ...     def prepare(self, structure, plan):
        ...         def fill(newborns):
        ...             for group in newborns.born:  # here simply the rows of the layer itself
        ...                 weight = newborns.model.get_submodule(group).weight
        ...                 with torch.no_grad():
        ...                     weight[newborns.indices(group)] = 0.0
        ...             return Lineage()
        ...         return fill
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> _ = structure.apply(growmas.Plan(grow={"0": 1}), init=ZeroRows())
        >>> net[0].weight[3].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """

    def prepare(self, structure: Any, plan: Plan) -> Fill:
        """Look at the network before the edit, and return the function that fills fresh entries.

        Args:
            structure: The `Structure` before the edit.
            plan: The plan.

        Raises:
            PlanError: The units of the plan cannot be initialised in that way.
        """
        ...
