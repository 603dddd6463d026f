"""Growth by a fixed number or share of units."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from growmas.errors import PlanError
from growmas.manager.checks import check_number, group_names
from growmas.manager.plans import cause_of
from growmas.manager.policy import Policy
from growmas.manager.situation import Moment, Situation
from growmas.structure import Plan

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class GrowPolicy(Policy):
    """Add a fixed number or share of fresh units to every group before a task.

    Groups that cannot grow or cannot shrink are skipped (the view of an earlier task must be able
    to leave the fresh units out) unless a mapping names them. Nothing is added before the first
    task. Give either `units` or `fraction`.

    Attributes:
        units: Fresh units per group; a mapping from group names gives each its own number, and
            the groups that it does not name get none.
        fraction: Share of a group's present width, rounded, at least one unit; a mapping as above.
        protected: Groups that get none.
    """

    units: int | Mapping[str, int] | None = None
    fraction: float | Mapping[str, float] | None = None
    protected: tuple[str, ...] = ()

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "step")
    reads_importance: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        if (self.units is None) == (self.fraction is None):
            raise PlanError(
                f"GrowPolicy(units={self.units!r}, fraction={self.fraction!r}): give one of the "
                "two, such as GrowPolicy(units=8)"
            )
        for key, count in _each("units", self.units):
            check_number(key, count, "a whole number >= 0", lambda n: n >= 0, whole=True)
        for key, share in _each("fraction", self.fraction):
            check_number(key, share, "a finite number >= 0", lambda x: 0 <= x < math.inf)

    def named(self) -> tuple[str, ...]:
        """Return the groups of the mapping and the protected ones."""
        given = self.fraction if self.units is None else self.units
        return (*(given if isinstance(given, Mapping) else ()), *self.protected)

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task that is about to begin."""
        if situation.first:
            return Plan()
        if self.units is not None:
            return Plan(
                grow=self._counts(situation, self.units),
                reason=f"GrowPolicy: {self.units} fresh units a group",
                cause=cause_of(self, "units a group", value=self.units),
            )
        shares = self._counts(situation, self.fraction or 0.0)
        widths = {name: situation.structure.groups[name].width for name in shares}
        grow = {
            name: max(1, round(share * widths[name])) for name, share in shares.items() if share
        }
        numbers = ", ".join(f"{name} +{count} of {widths[name]}" for name, count in grow.items())
        return Plan(
            grow=grow,
            reason=f"GrowPolicy: fraction {self.fraction}: {numbers}",
            cause=cause_of(self, "share of a group's width", value=self.fraction),
        )

    def _counts(
        self, situation: Situation, given: Number | Mapping[str, Number]
    ) -> dict[str, Number]:
        """Return the number of each group, protected ones left out."""
        if isinstance(given, Mapping):
            return {name: number for name, number in given.items() if name not in self.protected}
        return {group.name: given for group in situation.growable(self.protected)}


def _each(key: str, given: object) -> list[tuple[str, object]]:
    """Return the numbers given, each with the words that name it in a message."""
    if isinstance(given, Mapping):
        return [(f"{key}[{name!r}]", value) for name, value in given.items()]
    return [] if given is None else [(key, given)]
