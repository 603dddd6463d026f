"""How full a group is of what must not be forgotten."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from growmas.manager.checks import check_number, group_names
from growmas.manager.plans import cause_of
from growmas.manager.situation import Moment, Policy, Situation
from growmas.penalty import MAS
from growmas.penalty.settings import strength_of
from growmas.structure import Plan, Structure
from growmas.structure.units.placement import placements


def saturation(structure: Structure, mas: MAS) -> dict[str, float]:
    """How evenly the protection lies on the weights that make a group's units.

    With w_i = λ_i Ω_i over the n weights and biases that give the units (incoming ones),

        s = (Σ w_i)² / (n Σ w_i²),

    the participation ratio: s·n is the number of weights that would carry the same protection if
    each carried as much. s is 1/n where one weight has it all and 1 where all have as much; it
    does not change with the scale of Ω, the strength λ, or how many tasks are summed, only with
    how the protection is spread. Every task that uses other weights raises it; a weight that
    nothing protects is room, so k fresh units take it from s to s·U / (U + k).

    Returns:
        Group name -> s, for every group; 0 where nothing is protected.
    """
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
    """Fresh units where the protected capacity is full, before a task is learnt.

    A group whose saturation s (see `saturation`) is above the threshold τ gets as many units as
    bring it down to τ, since fresh ones are unprotected:

        k = ⌈U (s / τ − 1)⌉,  at most `most`.

    Attributes:
        threshold: τ, 0 < τ < 1; for every group or by group, others then get none.
        most: Most fresh units of a group at once.
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
        """Groups of the mapping, and protected ones."""
        given = self.threshold if isinstance(self.threshold, Mapping) else ()
        return (*given, *self.protected)

    def propose(self, situation: Situation) -> Plan:
        """The plan for the task about to begin."""
        if situation.first or not situation.mas.omega:
            return Plan()
        full = saturation(situation.structure, situation.mas)
        grow, said, limits = {}, [], {}
        for group in situation.growable(self.protected):
            threshold, now = self._threshold(group.name), full[group.name]
            if threshold is None or now <= threshold:
                continue
            grow[group.name] = min(self.most, math.ceil(group.width * (now / threshold - 1)))
            limits[group.name] = threshold
            said.append(f"{group.name} {now:.3f} > {threshold:g}")
        found = {name: full[name] for name in grow}
        return Plan(
            grow=grow,
            reason=f"GrowBySaturation: saturation {', '.join(said)}",
            cause=cause_of(self, "saturation", value=found, threshold=limits),
        )

    def _threshold(self, group: str) -> float | None:
        if isinstance(self.threshold, Mapping):
            return self.threshold.get(group)
        return self.threshold


def _participation(parts: list[Tensor]) -> float:
    count = sum(part.numel() for part in parts)
    total = sum(float(part.sum()) for part in parts)
    squares = sum(float(part.square().sum()) for part in parts)
    return total**2 / (count * squares) if squares else 0.0
