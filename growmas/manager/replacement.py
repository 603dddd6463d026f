"""Replacement of dead units by fresh ones."""

from dataclasses import dataclass
from typing import ClassVar

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

    Attributes:
        below: Share of the group's mean, 0 <= below < 1.
        grace: Number of tasks for which a unit is safe, including the one in which it was born;
            the default gives the youngest units one task to become active.
        reconstruct: Fold the effect of removed units into the layers that read them; there is
            none with below=0.
        protected: Groups left alone.
    """

    below: float = 0.0
    grace: int = 1
    reconstruct: bool = False
    protected: tuple[str, ...] = ()

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "step")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        check_number("below", self.below, "0 <= below < 1", lambda x: 0 <= x < 1)
        check_number("grace", self.grace, "a whole number >= 0", lambda n: n >= 0, whole=True)
        check_flag("reconstruct", self.reconstruct)

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task that is about to begin."""
        replace, parts, limits, highest = {}, [], {}, {}
        for group, total in saliencies(situation, "sum", self.protected, which="both"):
            if not group.can_grow:
                continue
            limit = self.below * float(total.mean())
            old = situation.expendable(group, self.grace, total)
            dead = sorted(i for i in old if float(total[i]) <= limit)
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
