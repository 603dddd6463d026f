"""Bounded pruning: as many units as a measured cost allows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from growmas.errors import PlanError
from growmas.manager.checks import check_number, check_word
from growmas.manager.plans import cause_of, merged
from growmas.manager.pruning import Pruning, saliencies
from growmas.manager.situation import Situation, data_of
from growmas.structure import Plan
from growmas.structure.inspection.dry_run import Baseline, measure_with_plan, outputs_on

Unit = tuple[str, int]

Measure = Literal["output", "metrics"]
"""The quantity on which the cost of a plan is measured."""


@dataclass(frozen=True)
class PruneWithin(Pruning):
    """Remove the least salient units of all groups, as many as a measured cost allows.

    Units are ranked by saliency over their group's mean. For n of them the plan is carried out
    on the network, reconstructed, measured, and undone; the largest n within the bound is found
    by bisection in about log2(candidates) measurements. The plan that is proposed was measured,
    so the bound holds even where the cost does not grow with n; then a larger n may exist.

    The plans of earlier policies on the same occasion are part of every measurement.

    Attributes:
        bound: Largest cost, >= 0. Of "output": mean |f'(x) − f(x)| over mean |f(x)| on the
            occasion's batches. Of "metrics": the largest drop of any metric.
        measure: "output", on the batches of the task alone; or "metrics", functions of the model
            given to `end_task`, such as the held-out accuracy of every head.
        most: Largest share of a group that may be removed at once, 0 < most < 1; the other
            settings are those of `Pruning`.
    """

    bound: float
    measure: Measure = "output"
    most: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        super().__post_init__()
        check_number("bound", self.bound, "a finite number >= 0", lambda x: 0 <= x < math.inf)
        check_number("most", self.most, "0 < most < 1", lambda x: 0 < x < 1)
        check_word("measure", self.measure, get_args(Measure))

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task just learnt.

        Raises:
            PlanError: There are no batches, or no metrics, to measure on, or a metric does not
                return a number.
        """
        cost = _Cost(self, situation)
        units = self._ranked(situation)
        low, high, paid = 0, len(units) + 1, 0.0  # `low` units are within the bound
        while high - low > 1:
            middle = (low + high) // 2
            found = cost.of(_plan(units[:middle]))
            if found <= self.bound:
                low, paid = middle, found
            else:
                high = middle
        if not low:
            return Plan()
        what = "relative change of the output" if self.measure == "output" else "drop of a metric"
        reason = (
            f"PruneWithin: {low} of {len(units)} candidates by {self.criterion} saliency; "
            f"{what} {paid:.3g}, bound {self.bound:g}"
        )
        cause = cause_of(self, what, value=paid, threshold=self.bound)
        return Plan(prune=_plan(units[:low]).prune, reason=reason, cause=cause)

    def _ranked(self, situation: Situation) -> list[Unit]:
        """Return the units that may be removed, the least salient of all groups first.

        Ties are broken by group name, then by id.
        """
        ranked: list[tuple[float, Unit]] = []
        for group, saliency in saliencies(situation, self.criterion, self.protected):
            mean = float(saliency.mean())
            shares = saliency / mean if mean else saliency
            old = situation.expendable(group, self.grace, shares)
            for i in old[: int(self.most * group.width)]:
                ranked.append((float(shares[i]), (group.name, group.unit_ids[i])))
        return [unit for _, unit in sorted(ranked)]


class _Cost:
    """Measures what removing units costs."""

    def __init__(self, policy: PruneWithin, situation: Situation) -> None:
        why = f"measures its cost on {policy.measure}"
        batches = None
        if policy.measure == "metrics" and not situation.metrics:
            raise PlanError(
                f"PruneWithin {why}, but has none: give metrics={{'name': function of the model}}"
            )
        if policy.measure == "output":
            batches = data_of(situation, "PruneWithin", why)
        structure = situation.structure
        self._situation = situation
        self._reconstruct = policy.reconstruct
        run = outputs_on(structure.model, batches, situation.forward) if batches else list
        self._judge = Baseline(structure, run, situation.metrics if batches is None else {})
        self._before = self._judge.outcome().metrics

    def of(self, plan: Plan) -> float:
        """Return the cost of a plan on top of what is planned; infinite where it is NaN."""
        here = self._situation
        source = here.statistics if self._reconstruct else None
        outcome = measure_with_plan(
            here.structure,
            merged(here.planned, plan),
            self._judge.outcome,
            options={"reconstruct": source},
        )
        drops = [self._before[name] - value for name, value in outcome.metrics.items()]
        costs = drops or [outcome.relative_change]
        return math.inf if any(map(math.isnan, costs)) else max(costs)


def _plan(units: Sequence[Unit]) -> Plan:
    """Return the plan that removes these units."""
    prune: dict[str, list[int]] = {}
    for name, unit in units:
        prune.setdefault(name, []).append(unit)
    return Plan(prune={name: sorted(ids) for name, ids in prune.items()})
