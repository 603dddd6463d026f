"""Initialisation by group: fresh units of every group start in a way of their own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from growmas.errors import PlanError
from growmas.structure.initialisation.newborns import (
    Fill,
    Initialisation,
    Lineage,
    Newborns,
)
from growmas.structure.units.plan import Plan, unknown_group


class InitByGroup:
    """Initialise the groups that are named each by its own initialisation.

    Groups that are not named start with random rows and zero columns. Write it as a dict:
    `init={"0": "paired", "2": gm.GradMax(batches, loss)}`.
    """

    def __init__(self, by_group: Mapping[str, Initialisation]) -> None:
        """Set the initialisation of each group.

        Args:
            by_group: Group name -> initialisation.
        """
        self.by_group = dict(by_group)

    def prepare(self, structure: Any, plan: Plan) -> Fill:
        """Let every initialisation look at its own group.

        Raises:
            PlanError: A group does not exist, or an initialisation refuses; all are listed.
        """
        problems = [
            f"init: {unknown_group(name, structure.groups, structure.fixed)}"
            for name in self.by_group
            if name not in structure.groups
        ]
        fills: dict[str, Fill] = {}
        for name, init in self.by_group.items():
            if name not in plan.added:
                continue
            try:
                fills[name] = init.prepare(structure, _only(plan, name))
            except PlanError as error:
                problems.append(str(error))
        if problems:
            raise PlanError("; ".join(problems))

        def fill(newborns: Newborns) -> Lineage:
            parts = [
                one(replace(newborns, born={name: newborns.born[name]}))
                for name, one in fills.items()
            ]
            return _together(parts)

        return fill


def _only(plan: Plan, name: str) -> Plan:
    """Return the part of a plan that concerns one group."""
    return replace(
        plan,
        prune={name: plan.prune.get(name, ())},
        grow={name: plan.grow.get(name, 0)},
        replace={name: plan.replace.get(name, ())},
    )


def _together(parts: list[Lineage]) -> Lineage:
    """Return several lineages as one."""
    transfers: dict[str, Any] = {}
    for part in parts:
        for name, found in part.transfers.items():
            transfers[name] = (*transfers.get(name, ()), *found)
    return Lineage(
        {name: units for part in parts for name, units in part.parents.items()},
        transfers,
        {name: units for part in parts for name, units in part.mates.items()},
    )
