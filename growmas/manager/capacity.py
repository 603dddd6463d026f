"""Capacity: the share of a group's weights that is protected, and growth where it is full."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from growmas.manager.checks import check_number, check_parts, group_names
from growmas.manager.plans import cause_of
from growmas.manager.policy import Policy
from growmas.manager.situation import Moment, Situation
from growmas.penalty import MAS
from growmas.penalty.settings import strength_of
from growmas.structure import Plan, Structure
from growmas.structure.units.placement import placements


def saturation(structure: Structure, mas: MAS) -> dict[str, float]:
    """Return how evenly the protection is spread over the weights that produce a group's units.

    With w_i = λ_i Ω_i over the n incoming weights and biases of the units,

        s = (Σ w_i)² / (n Σ w_i²),

    the participation ratio: s·n is the number of weights that would carry the same protection if
    each carried an equal part. s is 1/n where one weight carries all of it and 1 where all carry
    the same. It does not change with the scale of Ω, the strength λ, or the number of tasks
    summed, only with how the protection is spread. Every task that uses other weights raises it;
    unprotected weights lower it, so k fresh units take it from s to s·U / (U + k).

    Args:
        structure: The network, U units in each group.
        mas: Its importance and strength.

    Returns:
        Group name -> s, for every group; 0 where nothing is protected.

    Raises:
        PlanError: `structure` or `mas` is something else.
    """
    check_parts({"structure": (structure, Structure), "mas": (mas, MAS)})
    names = {id(p): name for name, p in structure.model.named_parameters()}
    found = {}
    for name, group in structure.groups.items():
        parts = []
        for place in placements(structure.model, group, ["out"]):
            parameter = names.get(id(place.tensor), "")
            omega = mas.omega.get(parameter)
            if omega is not None:
                where = place.positions.flatten().to(omega.device)
                strength = strength_of(parameter, mas.strength)
                parts.append(strength * omega.index_select(place.axis.dim, where).double())
        found[name] = _participation(parts)
    return found


@dataclass(frozen=True)
class GrowBySaturation(Policy):
    """Add fresh units where the protected capacity is full, before a task.

    A group whose saturation s (see `saturation`) is above the threshold τ gets as many units as
    bring it down to τ, because fresh ones are unprotected:

        k = ⌈U (s / τ − 1)⌉,  at most `most`.

    Attributes:
        threshold: τ, 0 < τ < 1, for every group; a mapping from group names gives each its own,
            and the groups that it does not name get none.
        most: Largest number of fresh units of a group at once.
        protected: Groups that get none.
    """

    threshold: float | Mapping[str, float] = 0.3
    most: int = 64
    protected: tuple[str, ...] = ()

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "step")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        given = self.threshold if isinstance(self.threshold, Mapping) else {"": self.threshold}
        for name, threshold in given.items():
            key = f"threshold[{name!r}]" if name else "threshold"
            check_number(key, threshold, "0 < threshold < 1", lambda x: 0 < x < 1)
        check_number("most", self.most, "a whole number >= 1", lambda n: n >= 1, whole=True)

    def named(self) -> tuple[str, ...]:
        """Return the groups of the mapping and the protected ones."""
        given = self.threshold if isinstance(self.threshold, Mapping) else ()
        return (*given, *self.protected)

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task that is about to begin."""
        if situation.first or not situation.mas.omega:
            return Plan()
        full = saturation(situation.structure, situation.mas)
        grow, parts, limits = {}, [], {}
        for group in situation.growable(self.protected):
            threshold, now = self._threshold(group.name), full[group.name]
            if threshold is None or now <= threshold:
                continue
            grow[group.name] = min(self.most, math.ceil(group.width * (now / threshold - 1)))
            limits[group.name] = threshold
            parts.append(f"{group.name} {now:.3f} > {threshold:g}")
        found = {name: full[name] for name in grow}
        return Plan(
            grow=grow,
            reason=f"GrowBySaturation: saturation {', '.join(parts)}",
            cause=cause_of(self, "saturation", value=found, threshold=limits),
        )

    def _threshold(self, group: str) -> float | None:
        """Return the group's threshold, None where it has none."""
        if isinstance(self.threshold, Mapping):
            return self.threshold.get(group)
        return self.threshold


def _participation(parts: list[Tensor]) -> float:
    """Return (Σ w)² / (n Σ w²) over all entries of all parts, 0 where all are zero."""
    count = sum(part.numel() for part in parts)
    total = sum(float(part.sum()) for part in parts)
    squares = sum(float(part.square().sum()) for part in parts)
    return total**2 / (count * squares) if squares else 0.0
