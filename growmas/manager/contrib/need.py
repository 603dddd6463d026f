"""Growth by need: until a short trial on the new task reaches a target loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from growmas.errors import PlanError
from growmas.manager.allocation import Share, allocate, check_share
from growmas.manager.checks import check_number, group_names
from growmas.manager.plans import cause_of, merged
from growmas.manager.policy import Policy
from growmas.manager.situation import Moment, Situation, Trial
from growmas.manager.trial import trial_loss
from growmas.structure import Plan
from growmas.structure.inspection.dry_run import measure_with_plan

Earlier = Literal["earlier"]
EARLIER: Earlier = "earlier"


@dataclass(frozen=True)
class GrowByNeed(Policy):
    """Add fresh units until a short trial on the new task reaches a target loss.

    Before a task, `trial(model, mas)` (given to `begin_task`) trains a copy of the network for a
    few steps under a copy of the penalty and returns the loss L that it reached. It is run on the
    network as it is, then with `step`, 2·`step`, 4·`step` … fresh units per group up to `most`,
    each carried out, tried and undone, until

        L ≤ slack · target.

    The first size that reaches this is proposed. A size that improves on the best one so far by
    less than the share `gain` ends the search, and the best one so far is proposed: more units do
    not help then, and the trial should be examined.

    Attributes:
        target: A loss; or "earlier", the mean loss that the trials of earlier tasks reached after
            their own growth, for tasks about as hard as those before.
        slack: Factor on the target, > 0.
        step: Smallest number of fresh units per group.
        most: Largest number of fresh units per group, as a mean over groups.
        gain: Smallest relative improvement that counts, 0 <= gain < 1.
        share: How units are allocated to groups, see `growmas.manager.allocate`.
        protected: Groups that get none.
    """

    target: float | Earlier = EARLIER
    slack: float = 1.0
    step: int = 8
    most: int = 64
    gain: float = 0.01
    share: Share = "even"
    protected: tuple[str, ...] = ()

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "step")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        if isinstance(self.target, str):
            if self.target != EARLIER:
                raise PlanError(f"target={self.target!r}: expected {EARLIER!r} or a loss")
        else:
            check_number("target", self.target, "a finite loss", math.isfinite)
        check_number("slack", self.slack, "a finite number > 0", lambda x: 0 < x < math.inf)
        check_number("step", self.step, "a whole number >= 1", lambda n: n >= 1, whole=True)
        words = f"a whole number >= step={self.step}"
        check_number("most", self.most, words, lambda n: n >= self.step, whole=True)
        check_number("gain", self.gain, "0 <= gain < 1", lambda x: 0 <= x < 1)
        check_share(self.share)

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task that is about to begin.

        Raises:
            PlanError: No trial was given.
        """
        trial = situation.trial
        if trial is None:
            raise PlanError(
                "GrowByNeed runs a trial of the new task, but has none: give "
                "begin_task(name, trial=function of (model, mas) -> loss)"
            )
        limit = math.inf if situation.first else self.slack * self._target(situation)
        if limit == math.inf:
            return Plan()
        best, least, losses, found = Plan(), math.inf, [], {}
        for plan in self._candidates(situation):
            loss = _loss_with(situation, trial, plan)
            losses.append(f"+{sum(plan.grow.values())} {loss:.3g}")
            found[sum(plan.grow.values())] = loss
            enough = loss < (1 - self.gain) * least or not losses[1:]
            if enough:
                best, least = plan, loss
            if loss <= limit or not enough:
                break
        reason = f"GrowByNeed: trial loss to be at most {limit:.3g}; by fresh units: "
        cause = cause_of(self, "trial loss by fresh units", value=found, threshold=limit)
        return Plan(grow=best.grow, reason=reason + ", ".join(losses), cause=cause)

    def _target(self, situation: Situation) -> float:
        """Return the target as a loss, infinite where no trial has been run yet."""
        if not isinstance(self.target, str):
            return float(self.target)
        known = situation.reached
        return sum(known) / len(known) if known else math.inf

    def _candidates(self, situation: Situation) -> Iterator[Plan]:
        """Yield plans from no units to the most, each twice the size of the one before."""
        yield Plan()
        groups, count = tuple(situation.growable(self.protected)), self.step
        previous = Plan()
        while groups and count <= self.most:
            total = count * len(groups)
            grow = allocate(situation.structure, groups, total, self.share)
            plan = situation.budget.trim(situation.structure, Plan(grow=grow), situation.planned)
            if plan.grow == previous.grow or not plan:
                return
            yield plan
            previous = plan
            if count == self.most:
                return
            count = min(2 * count, self.most)


def _loss_with(situation: Situation, trial: Trial, plan: Plan) -> float:
    """Return the loss that the trial reaches with a plan carried out, infinite for NaN."""
    loss = measure_with_plan(
        situation.structure,
        merged(situation.planned, plan),
        lambda: trial_loss(situation.mas, trial),
        followers=[situation.mas],
    )
    return math.inf if math.isnan(loss) else loss
