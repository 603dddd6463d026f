"""The situation in which a policy is asked: the network, its history and the data at hand."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from growmas.batches import Forward
from growmas.errors import PlanError
from growmas.manager.budget import Budget
from growmas.penalty import MAS
from growmas.structure import ActivationStatistics, Plan, Structure, UnitGroup
from growmas.structure.inspection.dry_run import Metrics

Moment = Literal["begin", "end", "step"]
"""Before a task is learnt, after it, or at any time in a loop without tasks."""

Trial = Callable[[nn.Module, MAS], float]
"""`trial(model, mas)`: train `model` for a few steps on the next task and return the loss reached.
Both are copies that are thrown away; `mas` is the penalty of that `model`."""

Loss = Callable[[nn.Module, Any], Tensor]
"""`loss(model, batch)`: a scalar, as in training."""


@dataclass(frozen=True, eq=False)
class Situation:
    """Everything that a policy may read when it is asked for a plan.

    A manager makes one for each occasion and passes it to `Policy.propose`. U is the width of a
    group. Reading a situation does not change the network.

    Attributes:
        moment: When the policy is asked: "begin", "end" or "step".
        structure: The units of the network.
        mas: Importance over tasks; at the "end" of a task, that task is included.
        ages: Group name -> [U] ages in tasks (in steps where no tasks are named), in the order of
            `unit_ids`: 0 for units born in the current task, or since the last step.
        substitutes: Group name -> ids of the units that replaced others at constant width.
        mates: Group name -> families of living units that were born as mates, see `Paired`.
        first: True before the first task: nothing has been learnt, so there is no reason to grow.
        reached: Losses that the trials of earlier tasks reached.
        planned: What the policies asked before this one planned on the same occasion; it has not
            been carried out yet.
        budget: The limits to which every proposal is trimmed.
        statistics: What removed units will be reconstructed from; None without reconstruction.
        batches: Data of the task; None where none were given.
        forward: How a batch goes through the model; None calls the model.
        loss: The loss of the task on such a batch; None where none was given.
        trial: A short training run on copies; None where none was given.
        metrics: Name -> function of the model, higher is better.
    """

    moment: Moment
    structure: Structure
    mas: MAS
    ages: Mapping[str, tuple[int, ...]]
    substitutes: Mapping[str, frozenset[int]] = field(default_factory=dict)
    mates: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
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
        """Yield the groups that can both grow and shrink.

        A group that cannot shrink is left out, because the view of an earlier task could not
        leave out its fresh units.

        Args:
            protected: Names of groups to skip.
        """
        for group in self.shrinkable(protected):
            if group.can_grow:
                yield group

    def shrinkable(self, protected: Iterable[str] = ()) -> Iterator[UnitGroup]:
        """Yield the groups that can shrink.

        Args:
            protected: Names of groups to skip.
        """
        for name, group in self.structure.groups.items():
            if group.can_shrink and name not in protected:
                yield group

    def leaving(self, group: UnitGroup) -> set[int]:
        """Return the ids of the group's units that `planned` already removes."""
        return set(self.planned.removed.get(group.name, ()))

    def old(self, group: UnitGroup, grace: int) -> list[int]:
        """Return the indices of the units past their grace period that `planned` does not remove.

        Args:
            group: The group.
            grace: Age from which on a unit may be removed.
        """
        leaving = self.leaving(group)
        pairs = enumerate(zip(group.unit_ids, self.ages[group.name], strict=True))
        return [i for i, (unit, age) in pairs if age >= grace and unit not in leaving]

    def expendable(self, group: UnitGroup, grace: int, saliency: Tensor) -> list[int]:
        """Return the indices of the `old` units that may be removed, the least salient first.

        The most salient of the oldest living units is never among them: without any unit of its
        time, the view of an old task would give the same answer to every input, however many
        younger units there are. Of several with the same saliency, the last one stays; units with
        the same saliency keep their order.

        Args:
            group: The group.
            grace: Age from which on a unit may be removed.
            saliency: [U], in the order of `unit_ids`.
        """
        values, leaving = saliency.tolist(), self.leaving(group)
        living = [i for i, unit in enumerate(group.unit_ids) if unit not in leaving]
        oldest = min((group.births[i] for i in living), default=0)
        of_its_time = [i for i in living if group.births[i] == oldest]
        stays = max(of_its_time, key=lambda i: (values[i], i), default=None)
        return sorted((i for i in self.old(group, grace) if i != stays), key=values.__getitem__)


def data_of(situation: Situation, policy: str, why: str) -> Iterable[Any]:
    """Return the batches of the occasion.

    Args:
        situation: The occasion.
        policy: Name of the policy that needs them, for the message.
        why: What it needs them for, such as "measures gradients".

    Raises:
        PlanError: No batches were given.
    """
    if situation.batches is None:
        raise PlanError(f"{policy} {why}, but has no data: give {_GIVE_DATA[situation.moment]}")
    return situation.batches


_GIVE_DATA = {
    "begin": "manager.begin_task(name, batches)",
    "end": "manager.end_task(batches)",
    "step": "manager.step(batches)",
}
