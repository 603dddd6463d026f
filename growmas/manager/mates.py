"""Mates in plans: a young unit that was born in a family is pruned with its family."""

from dataclasses import replace
from typing import TypeVar

from growmas.manager.situation import Situation
from growmas.structure import Plan, UnitGroup
from growmas.structure.initialisation.paired import still_mates

T = TypeVar("T")


def with_mates(plan: T, situation: Situation) -> T | Plan:
    """Return a plan that removes mates together, as long as they do the same.

    Mates cancel each other. Removing one alone would change the function by what the others add;
    removing all of them changes nothing. A family that would leave no unit stays out of the plan.

    Args:
        plan: What a policy proposed; anything but a plan comes back as it is.
        situation: The occasion, with the families of living units.
    """
    if not isinstance(plan, Plan) or not plan.prune or not situation.mates:
        return plan
    prune = dict(plan.prune)
    for name, units in plan.prune.items():
        group = situation.structure.groups.get(name)
        if group is not None and units:
            prune[name] = _completed(group, tuple(units), plan, situation)
    return plan if prune == dict(plan.prune) else replace(plan, prune=prune)


def _completed(
    group: UnitGroup, units: tuple[int, ...], plan: Plan, situation: Situation
) -> tuple[int, ...]:
    gone = {*plan.removed.get(group.name, ()), *situation.leaving(group)}
    found = list(units)
    for family in situation.mates.get(group.name, ()):
        named, left = set(family) & set(units), [unit for unit in family if unit not in gone]
        if not named or not left or not still_mates(situation.structure.model, group, family):
            continue
        if len(gone) + len(left) < group.width or plan.added.get(group.name, 0):
            found += left
            gone |= set(left)
        else:
            found = [unit for unit in found if unit not in named]
            gone -= named
    return tuple(found)
