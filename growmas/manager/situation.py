"""What a policy is asked about, and what every policy has."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from growmas.batches import Forward
from growmas.errors import PlanError
from growmas.manager.budget import Budget
from growmas.penalty import MAS
from growmas.structure import ActivationStatistics, Plan, Structure, UnitGroup
from growmas.structure.inspection.dry_run import Metrics

Moment = Literal["begin", "end", "step"]
"""Before a task is learnt, after it, or at any time in a loop that knows no tasks."""

Trial = Callable[[nn.Module, MAS], float]
"""`trial(model, mas)`: trains `model` for a few steps on what comes next and returns the loss
reached. Both are copies that are thrown away; `mas` is the penalty of that `model`."""

Loss = Callable[[nn.Module, Any], Tensor]
"""`loss(model, batch)`: a scalar, as in training."""


@dataclass(frozen=True, eq=False)
class Situation:
    """What a policy may look at; it changes nothing.

    Attributes:
        moment: When the policy is asked.
        structure: The units.
        mas: Importance over tasks; at the "end" of a task, the task included.
        ages: Group name -> [U] for how long each unit has lived, in the order of `unit_ids`: 0 is
            born in the current task, or since the last step where no tasks are named.
        substitutes: Group name -> units that were born in the place of others, at constant width.
        first: Whether nothing was learnt before, so that there is nothing to grow beside.
        reached: Losses that the trials of earlier tasks reached.
        planned: What policies asked before this one have planned on the same occasion; it has
            not been carried out.
        budget: To which every proposal is trimmed, in case a policy wants to know.
        statistics: What removed units will be reconstructed from; None where they are not.
        batches: Data of the task, None where none were given.
        forward: How a batch goes through the model.
        loss: The task's loss on such a batch.
        trial: A short training run on copies.
        metrics: Functions of the model.
    """

    moment: Moment
    structure: Structure
    mas: MAS
    ages: Mapping[str, tuple[int, ...]]
    substitutes: Mapping[str, frozenset[int]] = field(default_factory=dict)
    first: bool = False
    reached: tuple[float, ...] = ()
    planned: Plan = field(default_factory=Plan)
    budget: Budget = field(default_factory=Budget)
    statistics: ActivationStatistics | None = None
    batches: Iterable[Any] | None = None
    forward: Forward | None = None
    loss: Loss | None = None
    trial: Trial | None = None
    metrics: Metrics = field(default_factory=dict)

    def growable(self, protected: Iterable[str] = ()) -> Iterator[UnitGroup]:
        """Groups that can grow, and shrink: else an old view could not leave the units out."""
        for name, group in self.structure.groups.items():
            if group.can_grow and group.can_shrink and name not in protected:
                yield group

    def shrinkable(self, protected: Iterable[str] = ()) -> Iterator[UnitGroup]:
        """Groups that can shrink."""
        for name, group in self.structure.groups.items():
            if group.can_shrink and name not in protected:
                yield group

    def doomed(self, group: UnitGroup) -> set[int]:
        """Units of the group that go already by what is planned."""
        return set(self.planned.removed.get(group.name, ()))

    def old(self, group: UnitGroup, grace: int) -> list[int]:
        """Indices of the group's units that are past their grace period and not doomed yet."""
        doomed = self.doomed(group)
        pairs = enumerate(zip(group.unit_ids, self.ages[group.name], strict=True))
        return [i for i, (unit, age) in pairs if age >= grace and unit not in doomed]

    def expendable(self, group: UnitGroup, grace: int, saliency: Tensor) -> list[int]:
        """The units of `old` that may go, the least salient first.

        The most salient of the eldest that live stays: without any unit of its time, the view of
        an old task would answer every input alike, however many newborns there are.

        Args:
            group: The group.
            grace: Its units' grace period.
            saliency: [U], in the order of `unit_ids`.
        """
        values, doomed = saliency.tolist(), self.doomed(group)
        living = [i for i, unit in enumerate(group.unit_ids) if unit not in doomed]
        eldest = min((group.births[i] for i in living), default=0)
        stays = max((i for i in living if group.births[i] == eldest), key=lambda i: (values[i], i))
        return sorted((i for i in self.old(group, grace) if i != stays), key=values.__getitem__)


class Policy:
    """When to grow or prune, and what: subclass it for a rule of your own.

    Attributes:
        moments: When the policy is asked.
        reconstruct: Whether what it removes is reconstructed from the manager's statistics.
        protected: Groups it leaves alone.
    """

    moments: ClassVar[tuple[Moment, ...]] = ()
    reconstruct: bool = False
    protected: tuple[str, ...] = ()

    def propose(self, situation: Situation) -> Plan:
        """What to do now; an empty plan for nothing. Must leave everything bit-identical.

        Raises:
            PlanError: The policy does not say.
        """
        raise PlanError(f"{type(self).__name__} has no propose(situation) -> Plan: write it")

    def named(self) -> tuple[str, ...]:
        """Groups that the policy names, to be checked when a manager is made."""
        return tuple(self.protected)


def data_of(situation: Situation, policy: str, why: str) -> Iterable[Any]:
    """The batches of the occasion.

    Raises:
        PlanError: None were given.
    """
    if situation.batches is None:
        raise PlanError(f"{policy} {why}, but has no data: give {_GIVE_DATA[situation.moment]}")
    return situation.batches


_GIVE_DATA = {
    "begin": "manager.begin_task(name, batches)",
    "end": "manager.end_task(batches)",
    "step": "manager.step(batches)",
}
