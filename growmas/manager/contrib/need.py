"""Growing until a short trial on the new task goes well enough."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from growmas.errors import PlanError
from growmas.manager.allocation import check_share, shared_out
from growmas.manager.checks import check_number, group_names
from growmas.manager.plans import cause_of, merged
from growmas.manager.situation import Moment, Policy, Situation, Trial
from growmas.penalty import MAS
from growmas.structure import Plan
from growmas.structure.inspection.dry_run import measure_with_plan

EARLIER = "earlier"


def trial_loss(mas: MAS, trial: Trial) -> float:
    """The loss that a trial reaches on copies of the network and its penalty, as they are now.

    Network, penalty and torch's random state are bit-identical afterwards; what else the trial
    draws on (a data loader with a generator of its own) is its own affair.

    Args:
        mas: The penalty, which holds the network.
        trial: (model, mas) -> loss.

    Raises:
        PlanError: It gives no number.
    """
    scratch = copy.deepcopy(mas)
    devices = sorted({p.device.index or 0 for p in mas.model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        loss: Any = trial(scratch.model, scratch)
    try:
        return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PlanError(f"trial gave {loss!r:.80}: expected the loss it reached") from error


@dataclass(frozen=True)
class GrowByNeed(Policy):
    """Fresh units until a short trial on the new task reaches a target, and no more.

    Before a task, `trial(model, mas)` (given to `begin_task`) trains a copy of the network for a
    few steps under a copy of the penalty and returns the loss L reached. It is asked of the
    network as it is, then with `step`, 2·`step`, 4·`step` … fresh units a group up to `most`,
    each carried out, tried and taken back, until

        L ≤ slack · target,

    and the first size that reaches it is proposed. A size that is better than the best so far by
    less than the share `gain` ends the search, and the best so far is proposed: units do not help
    then, and the trial should be looked at.

    Attributes:
        target: A loss; or "earlier", the mean loss that the trials of earlier tasks reached after
            their own growth, for tasks about as hard as those before.
        slack: > 0.
        step: Fewest fresh units a group.
        most: Most fresh units a group, a mean over groups.
        gain: 0 <= gain < 1.
        share: How units are shared out over groups, see `shared_out`.
        protected: Groups that get none.
    """

    target: float | str = EARLIER
    slack: float = 1.0
    step: int = 8
    most: int = 64
    gain: float = 0.01
    share: str = "even"
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
        """The plan for the task about to begin.

        Raises:
            PlanError: There is no trial.
        """
        trial = situation.trial
        if trial is None:
            raise PlanError(
                "GrowByNeed tries the new task, but has no trial: give "
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
        said = f"GrowByNeed: trial loss to be at most {limit:.3g}; by fresh units: "
        cause = cause_of(self, "trial loss by fresh units", value=found, threshold=limit)
        return Plan(grow=best.grow, reason=said + ", ".join(losses), cause=cause)

    def _target(self, situation: Situation) -> float:
        if not isinstance(self.target, str):
            return float(self.target)
        known = situation.reached
        return sum(known) / len(known) if known else math.inf

    def _candidates(self, situation: Situation) -> Iterator[Plan]:
        """Plans from nothing to the most, each twice the one before."""
        yield Plan()
        groups, count = tuple(situation.growable(self.protected)), self.step
        previous = Plan()
        while groups and count <= self.most:
            total = count * len(groups)
            grow = shared_out(situation.structure, groups, total, self.share)
            plan = situation.budget.trim(situation.structure, Plan(grow=grow), situation.planned)
            if plan.grow == previous.grow or not plan:
                return
            yield plan
            previous = plan
            if count == self.most:
                return
            count = min(2 * count, self.most)


def _loss_with(situation: Situation, trial: Trial, plan: Plan) -> float:
    """The loss that the trial reaches with a plan carried out."""
    loss = measure_with_plan(
        situation.structure,
        merged(situation.planned, plan),
        lambda: trial_loss(situation.mas, trial),
        followers=[situation.mas],
    )
    return math.inf if math.isnan(loss) else loss
