"""Dead units give their place to fresh ones."""

from dataclasses import dataclass
from typing import ClassVar

from growmas.manager.checks import check_flag, check_number, group_names
from growmas.manager.plans import cause_of
from growmas.manager.prune import saliencies
from growmas.manager.situation import Moment, Policy, Situation
from growmas.structure import Plan


@dataclass(frozen=True)
class ReplaceDead(Policy):
    """Units that no task uses are replaced by fresh ones, at constant width, before a task.

    Unit u is dead if Σ Ω over all its weights, incoming, bias and outgoing, is at most `below`
    times its group's mean. With 0 it is dead if Ω is exactly zero there: no sample of any task so
    far made the output depend on it, as with a ReLU unit that is never on. The fresh units are
    born in the task about to begin, so earlier tasks do not see them.

    Attributes:
        below: 0 <= below < 1.
        grace: How many tasks a unit is safe for, the one it was born in included; units born
            last have had one task to become alive.
        reconstruct: Fold what removed units did into the layers that read them; nothing to do
            with below=0.
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
        """The plan for the task about to begin."""
        replace, said, limits, highest = {}, [], {}, {}
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
                said.append(f"{group.name} {len(dead)}")
        dead_is = (
            f"importance at most {self.below:g} of the mean" if self.below else "no importance"
        )
        reason = f"ReplaceDead: {dead_is}"
        return Plan(
            replace=replace,
            reason=f"{reason}: {', '.join(said)}" if said else reason,
            cause=cause_of(self, "importance of all weights", value=highest, threshold=limits),
        )
