"""Allocation of fresh units to groups."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from growmas.errors import PlanError, SurgeryError
from growmas.manager.checks import check_word
from growmas.structure import Plan, Structure, UnitGroup

Share = Literal["even", "width", "parameters", "flops"]
"""The basis on which fresh units are allocated to groups."""


def allocate(
    structure: Structure, groups: Sequence[UnitGroup], total: int, share: Share
) -> dict[str, int]:
    """Allocate `total` fresh units: group name -> number of units.

    Args:
        structure: The network.
        groups: The groups that may grow.
        total: Number of units to allocate.
        share: "even": the same number for each group. "width": in proportion to the groups'
            widths. "parameters", "flops": in inverse proportion to the cost of one unit, so that
            every group gets the same number of parameters or FLOPs.

    Raises:
        PlanError: An unknown word for `share`, or a group's unit has no cost of its own.
    """
    weights = _weights(structure, groups, share)
    return proportional(total, weights)


def proportional(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers in proportion to weights that add up to `total`.

    By largest remainders; of equal remainders the first in the mapping is rounded up.

    >>> proportional(10, {"a": 3.0, "b": 1.0, "c": 0.0})
    {'a': 8, 'b': 2, 'c': 0}
    """
    whole = sum(weights.values())
    if not whole > 0:
        return dict.fromkeys(weights, 0)
    exact = {name: total * weight / whole for name, weight in weights.items()}
    counts = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def unit_cost(structure: Structure, group: UnitGroup, what: Literal["parameters", "flops"]) -> int:
    """Return the parameters or FLOPs that one more unit of a group costs, at least 1.

    Raises:
        PlanError: The group cannot change alone, so that its unit has no cost of its own.
    """
    try:
        after = structure.cost(Plan(grow={group.name: 1}))
    except SurgeryError as error:
        raise PlanError(
            f"the cost of one unit of {group.name!r} is not defined: {error}"
        ) from error
    before = structure.cost()
    if what == "flops":
        return max(1, after.counted_flops() - before.counted_flops())
    return max(1, after.parameters - before.parameters)


def check_share(share: str) -> None:
    """Refuse an unknown word for `share`.

    Raises:
        PlanError: Names the words known.
    """
    check_word("share", share, get_args(Share))


def _weights(structure: Structure, groups: Sequence[UnitGroup], share: Share) -> dict[str, float]:
    """Return the weight of each group in the allocation."""
    check_share(share)
    if share == "even":
        return {group.name: 1.0 for group in groups}
    if share == "width":
        return {group.name: float(group.width) for group in groups}
    return {group.name: 1 / unit_cost(structure, group, share) for group in groups}
