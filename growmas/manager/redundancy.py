"""Units that the layers that read them can do without, after a task."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.errors import PlanError
from growmas.manager.checks import check_number
from growmas.manager.plans import cause_of
from growmas.manager.pruning import Pruning
from growmas.manager.situation import Situation, data_of
from growmas.structure import Plan, UnitGroup


@dataclass(frozen=True)
class PruneByRedundancy(Pruning):
    """The share of every group that its readers miss least, after a task has been learnt.

    The choice is that of `Structure.select`: from the statistics over all tasks, with which the
    manager also reconstructs, or with `reconstruct=False` from the batches of the occasion.

    Attributes:
        ratio: Share of the living units to remove, 0 <= ratio < 1, rounded down; `criterion`,
            `grace`, `reconstruct` and `protected` are those of `Pruning`.
        weight: How much importance counts beside redundancy, 0 or more: the choice is by
            error + weight · saliency / Σ saliency.
        guard: The fewest units that carry this share of a group's saliency stay, 0 <= guard < 1,
            so that what an old task needs is not removed.
        round_to: The channels that stay are a multiple.
    """

    ratio: float
    weight: float = 0.0
    guard: float = 0.0
    round_to: int = 1

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        super().__post_init__()
        check_number("ratio", self.ratio, "0 <= ratio < 1", lambda x: 0 <= x < 1)
        check_number("weight", self.weight, "0 or more", lambda x: x >= 0)
        check_number("guard", self.guard, "0 <= guard < 1", lambda x: 0 <= x < 1)
        check_number("round_to", self.round_to, "a whole number >= 1", lambda n: n >= 1, whole=True)

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task just learnt.

        Raises:
            PlanError: There are neither statistics nor batches.
            DataError: The data are bad, or all inputs of a layer are constant.
        """
        groups = [group for group in situation.shrinkable(self.protected) if group.width > 1]
        saliency = self._saliency(situation, groups)
        free = {g.name: situation.expendable(g, self.grace, saliency[g.name]) for g in groups}
        chosen = [
            group for group in groups if min(int(self.ratio * group.width), len(free[group.name]))
        ]
        if not chosen:
            return Plan(reason=f"PruneByRedundancy: least {self.ratio:.0%} of a group")
        keep = {
            g.name: [unit for i, unit in enumerate(g.unit_ids) if i not in free[g.name]]
            for g in chosen
        }
        plan = situation.structure.select(
            self._data(situation),
            ratio=self.ratio,
            groups=[group.name for group in chosen],
            keep=keep,
            omega=situation.mas.omega or None,
            weight=self.weight if situation.mas.omega else 0.0,
            guard=self.guard if self.guard and situation.mas.omega else None,
            round_to=self.round_to,
            forward=situation.forward,
        )
        statistic = f"predicted error of readers, least {self.ratio:g} of a group"
        cause = cause_of(self, statistic, value=dict(plan.cause["value"]))
        cause["predicted_error"] = plan.cause["predicted_error"]
        reason = plan.reason.replace("select:", "PruneByRedundancy:", 1)
        return Plan(prune=plan.prune, reason=reason, cause=cause)

    def _saliency(self, situation: Situation, groups: list[UnitGroup]) -> dict[str, Tensor]:
        """Return the saliency of every group; zeros where nothing was learnt."""
        if not situation.mas.omega:
            return {group.name: torch.zeros(group.width) for group in groups}
        return situation.structure.saliency(situation.mas.omega, criterion=self.criterion)

    def _data(self, situation: Situation) -> Any:
        held = situation.statistics
        if held is not None and any(moments.count for moments in held.moments.values()):
            return held
        if situation.batches is None and held is not None:
            raise PlanError(
                "PruneByRedundancy chooses by data, but no data was seen yet: give step(batches)"
            )
        return data_of(situation, type(self).__name__, "chooses by data")
