"""Sharing fresh units out over groups."""

import math
from collections.abc import Mapping, Sequence

from growmas.errors import PlanError, SurgeryError
from growmas.structure import Plan, Structure, UnitGroup

SHARES = ("even", "width", "parameters", "flops")


def shared_out(
    structure: Structure, groups: Sequence[UnitGroup], total: int, share: str
) -> dict[str, int]:
    """Group name -> number of fresh units, `total` of them.

    Args:
        structure: The network.
        groups: Those that may grow.
        total: How many units there are to share out.
        share: "even": as many for each group. "width": in proportion to the groups' widths.
            "parameters", "flops": in inverse proportion to what one unit costs, so that every
            group gets as many parameters or FLOPs.

    Raises:
        PlanError: An unknown word.
    """
    weights = _weights(structure, groups, share)
    return proportional(total, weights)


def proportional(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in proportion to weights that add up to `total`, by largest remainders.

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


def unit_cost(structure: Structure, group: UnitGroup, what: str) -> int:
    """Parameters or FLOPs that one more unit of a group costs, at least 1.

    Raises:
        PlanError: The group cannot change alone, so that its unit has no cost of its own.
    """
    try:
        after = structure.cost(Plan(grow={group.name: 1}))
    except SurgeryError as error:
        raise PlanError(
            f"the cost of one unit of {group.name!r} is not defined: {error}"
        ) from error
    return max(1, int(getattr(after, what) - getattr(structure.cost(), what)))


def check_share(share: str) -> None:
    """Refuse an unknown word.

    Raises:
        PlanError: Names those known.
    """
    if share not in SHARES:
        raise PlanError(f"share={share!r}: expected one of {', '.join(map(repr, SHARES))}")


def _weights(structure: Structure, groups: Sequence[UnitGroup], share: str) -> dict[str, float]:
    check_share(share)
    if share == "even":
        return {group.name: 1.0 for group in groups}
    if share == "width":
        return {group.name: float(group.width) for group in groups}
    return {group.name: 1 / unit_cost(structure, group, share) for group in groups}
