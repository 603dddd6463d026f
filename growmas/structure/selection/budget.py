"""Targets: how many units go from each group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.rounding import units_of

Share = float | Mapping[str, float]


@dataclass(frozen=True)
class Target:
    """The size to leave; exactly one of the four is given.

    Attributes:
        ratio: Share of the units of every group that goes, rounded down, or shares by group name.
        widths: Group name -> number of units that stay; groups not named keep theirs.
        flops: FLOPs that stay: a share of today's as a float up to 1, or their number as an int.
        parameters: Parameters that stay, alike.
    """

    ratio: Share | None = None
    widths: Mapping[str, int] | None = None
    flops: float | None = None
    parameters: float | None = None

    def check(self, groups: Mapping[str, UnitGroup], known: Callable[[str], str]) -> None:
        """Refuse a target that is missing, given twice, or not possible.

        Args:
            groups: The groups that can be chosen from.
            known: Returns the error message for a name that is not among them.

        Raises:
            PlanError: Every problem is listed.
        """
        parts = ("ratio", "widths", "flops", "parameters")
        given = [name for name in parts if getattr(self, name) is not None]
        if len(given) != 1:
            raise PlanError(
                f"select needs one of ratio=, widths=, flops= and parameters=, got "
                f"{' and '.join(given) or 'none'}: write for instance ratio=0.5"
            )
        problems = self._problems(groups, known)
        if problems:
            raise PlanError("; ".join(problems))

    def _problems(self, groups: Mapping[str, UnitGroup], known: Callable[[str], str]) -> list[str]:
        widths: object = self.widths
        if self.widths is not None:
            if not isinstance(widths, Mapping):
                return [f"widths={widths!r:.80}: expected numbers by group name"]
            return [
                known(name)
                if name not in groups
                else f"widths[{name!r}]={width!r}: expected a whole number of units from 1 to "
                f"{groups[name].width}"
                for name, width in self.widths.items()
                if name not in groups or not _is_width(width, groups[name].width)
            ]
        if self.ratio is not None:
            ratios = self.ratio if isinstance(self.ratio, Mapping) else {"": self.ratio}
            return [
                known(name)
                if name and name not in groups
                else f"ratio={ratio!r}: expected a share of units to remove, 0 <= ratio < 1, which "
                "leaves at least one unit of a group"
                for name, ratio in ratios.items()
                if (name and name not in groups) or not (_is_number(ratio) and 0 <= ratio < 1)
            ]
        name = "flops" if self.flops is not None else "parameters"
        value = getattr(self, name)
        if not _is_number(value) or not (0 < value <= 1 if isinstance(value, float) else value > 0):
            return [
                f"{name}={value!r}: expected the share that stays as a float, 0 < {name} <= 1, or "
                "their number as an int"
            ]
        return []


def counts_by_ratio(
    groups: Mapping[str, UnitGroup],
    ratio: Share,
    most: Mapping[str, int],
    round_to: int | Mapping[str, int],
) -> dict[str, int]:
    """Return how many units go: group name -> number.

    Args:
        groups: The groups.
        ratio: Share of the units that goes, for all or by name.
        most: Group name -> how many may go at most.
        round_to: Multiple of the channels that stay, for all groups or by name.
    """
    found = {}
    for name, group in groups.items():
        share = ratio.get(name, 0.0) if isinstance(ratio, Mapping) else ratio
        count = min(int(share * group.width + 1e-9), most[name], group.width - 1)
        found[name] = rounded_count(group, count, round_to)
    return found


def counts_by_widths(
    groups: Mapping[str, UnitGroup],
    widths: Mapping[str, int],
    most: Mapping[str, int],
    round_to: int | Mapping[str, int],
) -> dict[str, int]:
    """Return how many units go so that so many stay.

    Raises:
        PlanError: More units would go than may.
    """
    found = {}
    for name, width in widths.items():
        count = groups[name].width - width
        if count > most[name]:
            raise PlanError(
                f"widths[{name!r}]={width}: only {most[name]} of {groups[name].width} "
                f"{groups[name].kind} may go, the others are kept by guard= or keep="
            )
        found[name] = rounded_count(groups[name], count, round_to)
    return found


def rounded_count(group: UnitGroup, count: int, round_to: int | Mapping[str, int]) -> int:
    """Return a number of units to remove, made smaller until a multiple of channels stays."""
    multiple = round_to.get(group.name, 1) if isinstance(round_to, Mapping) else round_to
    return max(0, count - (-(group.width - count) % units_of(group, multiple)))


def fewest(
    steps: Sequence[float],
    counts: Callable[[float], dict[str, int]],
    fits: Callable[[dict[str, int]], bool],
) -> dict[str, int] | None:
    """Return the counts of the smallest ratio that fits, by bisection; None if none does."""
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if fits(counts(steps[middle])):
            high = middle
        else:
            low = middle + 1
    return counts(steps[low]) if low < len(steps) else None


def ratio_steps(groups: Mapping[str, UnitGroup]) -> list[float]:
    """Return the ratios at which the number of units to remove changes, in ascending order."""
    return sorted({count / g.width for g in groups.values() for count in range(g.width)})


def _is_width(width: Any, most: int) -> bool:
    return type(width) is int and 1 <= width <= most


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
