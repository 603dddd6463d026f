"""More fresh units than are wanted; the best of them stay."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from growmas.errors import PlanError
from growmas.manager.checks import check_number, group_names
from growmas.manager.prune import check_pruning, saliencies
from growmas.manager.situation import Moment, Policy, Situation
from growmas.structure import Plan, UnitGroup


@dataclass(frozen=True)
class OvergrowSelect(Policy):
    """Before a task, `factor` times as many fresh units as are to stay; after it, the best stay.

    A group gets `factor · keep` units before every task but the first. When the task has been
    learnt, the `keep` most salient of the units born in it stay. Views of earlier tasks never see
    any of them, so the selection costs the new task alone (and, by reconstruction, as much as
    that shifts the weights of older units). A budget limits the overgrown network too.

    Attributes:
        keep: Units that stay, for every group or by group.
        factor: >= 1.
        criterion: See `PrunePolicy`, also for the following.
        reconstruct: Fold what removed units did into the layers that read them.
        protected: Groups that get none.
    """

    keep: int | Mapping[str, int]
    factor: float = 3
    criterion: str = "penalty"
    reconstruct: bool = True
    protected: tuple[str, ...] = ()

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "end")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        counts = self.keep if isinstance(self.keep, Mapping) else {"": self.keep}
        for name, count in counts.items():
            key = f"keep[{name!r}]" if name else "keep"
            check_number(key, count, "a whole number >= 1", lambda n: n >= 1, whole=True)
        check_number("factor", self.factor, "a number >= 1, up to 100", lambda x: 1 <= x <= 100)
        check_pruning(self.criterion, 0)
        unfair = [name for name in counts if name in self.protected]
        if unfair:
            raise PlanError(f"keep and protected both name {', '.join(map(repr, unfair))}")

    def named(self) -> tuple[str, ...]:
        """Groups of the mapping, and protected ones."""
        return (*(self.keep if isinstance(self.keep, Mapping) else ()), *self.protected)

    def propose(self, situation: Situation) -> Plan:
        """Fresh units before the task, the surplus of them after it."""
        if situation.moment == "end":
            return self._select(situation)
        if situation.first:
            return Plan()
        grow = {
            group.name: round(self.factor * count)
            for group in situation.growable(self.protected)
            if (count := self._kept(group))
        }
        kept = f"{self.keep} of {self.factor:g} times as many fresh units a group will stay"
        return Plan(grow=grow, reason=f"OvergrowSelect: {kept}")

    def _select(self, situation: Situation) -> Plan:
        prune, said = {}, []
        for group, saliency in saliencies(situation, self.criterion, self.protected):
            count, values = self._kept(group), saliency.tolist()
            fresh = set(situation.old(group, 0)) - set(situation.old(group, 1))
            if not count or situation.structure.task == 0 or len(fresh) <= count:
                continue
            best = sorted(fresh, key=lambda i: (-values[i], i))
            prune[group.name] = sorted(group.unit_ids[i] for i in best[count:])
            cut = f"{values[best[count]]:.3g} < {values[best[count - 1]]:.3g}"
            said.append(f"{group.name} {count} of {len(fresh)} stay, {cut}")
        reason = f"OvergrowSelect: most {self.criterion} saliency among the newborn"
        return Plan(prune=prune, reason=f"{reason}: {'; '.join(said)}" if said else reason)

    def _kept(self, group: UnitGroup) -> int:
        if isinstance(self.keep, Mapping):
            return self.keep.get(group.name, 0)
        return self.keep
