"""Replacement of dead units by fresh ones."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from growmas.errors import PlanError
from growmas.importance import mas_importance
from growmas.manager.checks import check_flag, check_number, group_names
from growmas.manager.plans import cause_of
from growmas.manager.policy import Policy
from growmas.manager.pruning import saliencies
from growmas.manager.situation import Moment, Situation
from growmas.structure import Plan


@dataclass(frozen=True)
class ReplaceDead(Policy):
    """Replace units that no task uses by fresh ones, at constant width, before a task.

    Unit u is dead if Σ Ω over all its weights (incoming, bias and outgoing) is at most `below`
    times the mean of its group. With below=0 it is dead if that sum is exactly zero: no sample of
    any task so far made the output depend on it, as for a ReLU unit that is never active. The
    fresh units are born in the task that is about to begin, so earlier tasks do not see them.

    The importance summed over tasks never sees a unit that dies later: it keeps what the unit had.
    With `recent`, the exact importance of the data at hand, those of the task about to begin, is
    looked at instead, and units that old tasks need stay: those for which Σ Ω θ² over the weights
    that read them exceeds `guard` × the mean of their group.

    Attributes:
        below: Share of the group's mean, 0 <= below < 1.
        grace: Number of tasks for which a unit is safe, including the one in which it was born;
            the default gives the youngest units one task to become active.
        reconstruct: Fold the effect of removed units into the layers that read them; there is
            none with below=0.
        protected: Groups left alone.
        recent: True measures importance on the batches that the manager is given.
        guard: Share of the mean need above which old tasks keep a unit, with `recent`; None keeps
            none.
    """

    below: float = 0.0
    grace: int = 1
    reconstruct: bool = False
    protected: tuple[str, ...] = ()
    recent: bool = False
    guard: float | None = 0.1

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "step")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        check_number("below", self.below, "0 <= below < 1", lambda x: 0 <= x < 1)
        check_number("grace", self.grace, "a whole number >= 0", lambda n: n >= 0, whole=True)
        check_flag("reconstruct", self.reconstruct)
        check_flag("recent", self.recent)
        if self.guard is not None:
            check_number("guard", self.guard, "a number >= 0, or None", lambda x: 0 <= x < math.inf)

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task that is about to begin."""
        replace, parts, limits, highest = {}, [], {}, {}
        omega = self._recent(situation) if self.recent and not situation.first else None
        needed = self._needed(situation) if omega is not None else {}
        for group, total in saliencies(situation, "sum", self.protected, which="both", omega=omega):
            if not group.can_grow:
                continue
            limit = self.below * float(total.mean())
            old = situation.expendable(group, self.grace, total)
            kept = needed.get(group.name, frozenset())
            dead = sorted(i for i in old if float(total[i]) <= limit and i not in kept)
            if dead:
                replace[group.name] = [group.unit_ids[i] for i in dead]
                limits[group.name] = limit
                highest[group.name] = max(float(total[i]) for i in dead)
                parts.append(f"{group.name} {len(dead)}")
        dead_is = (
            f"importance at most {self.below:g} of the mean" if self.below else "no importance"
        )
        reason = f"ReplaceDead: {dead_is}"
        return Plan(
            replace=replace,
            reason=f"{reason}: {', '.join(parts)}" if parts else reason,
            cause=cause_of(self, "importance of all weights", value=highest, threshold=limits),
        )

    def _recent(self, situation: Situation) -> dict[str, Tensor]:
        """Return the importance of the data at hand.

        Raises:
            PlanError: There are none.
        """
        if situation.batches is None:
            raise PlanError(
                "ReplaceDead(recent=True) measures importance on data of the task that begins: "
                "give begin_task(name, batches)"
            )
        model, forward = situation.structure.model, situation.forward
        return mas_importance(model, situation.batches, forward=forward)

    def _needed(self, situation: Situation) -> dict[str, frozenset[int]]:
        """Return the units that old tasks need: group name -> indices."""
        if self.guard is None:
            return {}
        found = {}
        for group, need in saliencies(situation, "penalty", self.protected):
            held = need > self.guard * need.mean()
            found[group.name] = frozenset(held.nonzero().flatten().tolist())
        return found
