"""Fresh units, and what a way for them to start must offer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from growmas.structure.units.edit import AxisTransfer
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.plan import Plan


@dataclass(frozen=True, eq=False)
class Newborns:
    """The fresh units of an edit that is being made; their rows are random, their columns zero.

    Attributes:
        model: The network, with its new tensors in place.
        groups: Every group as it is after the edit.
        born: Group name -> ids of the fresh units.
        generator: Randomness, on the CPU; None takes torch's own.
    """

    model: nn.Module
    groups: Mapping[str, UnitGroup]
    born: Mapping[str, tuple[int, ...]]
    generator: torch.Generator | None

    def indices(self, group: str) -> list[int]:
        """Where the fresh units of a group stand in its `unit_ids`."""
        return self.groups[group].indices(self.born.get(group, ()))


@dataclass(frozen=True, eq=False)
class Lineage:
    """What fresh units were made of.

    Attributes:
        parents: Group name -> {new unit: the unit it was split from}.
        transfers: Qualified parameter or buffer name -> entries derived from others.
    """

    parents: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    transfers: Mapping[str, tuple[AxisTransfer, ...]] = field(default_factory=dict)


Fill = Callable[[Newborns], Lineage]
"""Writes the fresh entries of the tensors in place; what it writes must keep the function."""


@runtime_checkable
class Initialisation(Protocol):
    """A way for fresh units to start."""

    def prepare(self, structure: Any, plan: Plan) -> Fill:
        """Look at the network before the edit; returns what fills the fresh entries after it.

        Raises:
            PlanError: The units of the plan cannot start that way.
        """
        ...
