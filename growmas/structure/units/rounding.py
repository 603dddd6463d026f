"""Widths in multiples, which kernels are fast for."""

from collections.abc import Mapping, Sequence
from math import gcd, lcm
from typing import Any

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup


def check_round_to(round_to: Any) -> None:
    """Refuse what is not a multiple, or multiples by group name.

    Raises:
        PlanError: It is something else.
    """
    numbers = round_to.values() if isinstance(round_to, Mapping) else [round_to]
    if not all(type(number) is int and number >= 1 for number in numbers):
        raise PlanError(
            f"round_to={round_to!r:.80}: expected a whole number >= 1, such as 8, or such numbers "
            "by group name"
        )


def rounded_plan(
    prune: Mapping[str, Sequence[int]],
    grow: Mapping[str, int],
    round_to: int | Mapping[str, int],
    groups: Mapping[str, UnitGroup],
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Return units to remove and numbers to add that leave widths in multiples.

    Args:
        prune: Group name -> ids of units to remove; the last are kept first.
        grow: Group name -> number of units to add; more are added where it is not 0.
        round_to: Multiple of the number of channels, for all groups or by name.
        groups: The groups.

    Raises:
        PlanError: A width between what is asked for and what is there is no multiple.
    """
    kept = {name: tuple(ids) for name, ids in prune.items()}
    added = dict(grow)
    problems = []
    for name in dict.fromkeys([*prune, *grow]):
        group = groups[name]
        multiple = round_to.get(name, 1) if isinstance(round_to, Mapping) else round_to
        units = units_of(group, multiple)
        width = group.width - len(kept.get(name, ())) + added.get(name, 0)
        missing = -width % units
        if added.get(name, 0):
            added[name] += missing
        elif missing <= len(kept.get(name, ())):
            ids = kept.get(name, ())
            kept[name] = ids[: len(ids) - missing]
        else:
            problems.append(
                f"round_to={multiple}: group {name!r} has {group.width} {group.kind}, of which "
                f"{len(kept[name])} would be removed, and no multiple of {units} lies between "
                f"{width} and {group.width}; remove more, or choose a smaller multiple"
            )
    if problems:
        raise PlanError("the plan does not fit the network: " + "; ".join(problems))
    return kept, added


def units_of(group: UnitGroup, multiple: int) -> int:
    """Return the multiple of units of which every layer's channels are a multiple of `multiple`.

    An attention head is several channels of the layers that give and read it, and a unit of two
    gated neurons two channels of the first layer and one of the second.
    """
    held = {
        member.positions.shape[1]
        for member in group.members
        if (member.axes.out if member.side == "out" else member.axes.into)
    }
    return lcm(*(multiple // gcd(multiple, channels) for channels in held))
