"""When to grow and when to prune: policies propose plans, the manager carries them out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from growmas.errors import DataError, PlanError
from growmas.history.tracker import TopologyTracker
from growmas.importance.batches import Forward
from growmas.manager.ages import Ages
from growmas.manager.budget import Budget
from growmas.manager.checks import group_problems
from growmas.manager.need import trial_loss
from growmas.manager.plans import merged, without
from growmas.manager.situation import Loss, Metrics, Moment, Policy, Situation, Trial
from growmas.penalty import MAS
from growmas.structure import ActivationStatistics, Edit, Initialisation, Plan, Structure

Policies = Policy | Sequence[Policy] | None
Decide = Callable[[Plan], Plan | None]


class StructuralManager:
    """Grows a network before each new task and prunes it after, in a loop of your own.

    At the beginning of a task, at its end, or at any `step` of a loop that knows no tasks, every
    policy is asked in turn for a plan; each plan is trimmed to the budget, put to `decide`, and
    carried out through the structure, so that optimizer, penalty and tracker follow. A plan's
    reason, with policy, statistic and threshold, goes into the history.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x = torch.rand(16, 4)
        >>> structure = growmas.Structure(net, x)
        >>> manager = growmas.StructuralManager(
        ...     structure, mas=growmas.MAS(net), grow=growmas.GrowPolicy(units=4),
        ...     budget=growmas.Budget(units=11))
        >>> for task in ("a", "b"):
        ...     _ = manager.begin_task(task)
        ...     # ... train here, with mas.penalty() in the loss ...
        ...     _ = manager.end_task([x])
        >>> structure.groups["0"].width
        11

    Attributes:
        structure: The units.
        mas: Importance and anchors over tasks.
        statistics: What removed units are reconstructed from; None where they are not.
        budget: What the network may cost at most.
        reached: The losses that the trials of tasks reached, after what was grown for them.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        mas: MAS,
        optimizer: object | None = None,
        tracker: TopologyTracker | None = None,
        grow: Policies = None,
        prune: Policies = None,
        followers: Iterable[object] = (),
        budget: Budget | None = None,
        decide: Decide | None = None,
    ) -> None:
        """Compose the parts.

        Args:
            structure: The units of the network.
            mas: Consolidated at the end of each task; follows every edit.
            optimizer: Follows every edit.
            tracker: Gets a snapshot at the end of each task.
            grow: One policy or several, asked in this order, before those of `prune`.
            prune: One policy or several. A policy knows itself when it has something to say.
            followers: Whatever else must follow every edit.
            budget: What the network may cost at most; None sets no limit.
            decide: Called with every plan before it is carried out: returns the plan, another one
                in its place (trimmed to the budget as well), or None for a veto.

        Raises:
            PlanError: A policy names a group that does not exist, the budget is smaller than the
                network, or `mas` is of another network.
        """
        self.structure = structure
        self.mas = mas
        self.budget = budget or Budget()
        self.reached: tuple[float, ...] = ()
        self._policies = (*_several("grow", grow), *_several("prune", prune))
        self._decide = decide
        self._check()
        repairs = any(policy.reconstruct for policy in self._policies)
        self.statistics = ActivationStatistics(structure) if repairs else None
        self._ages = Ages()
        parts = (optimizer, mas, self.statistics, self._ages)
        self._followers = (*(part for part in parts if part is not None), *followers)
        self._tracker = tracker
        self._open = bool(structure.tasks)

    def begin_task(
        self,
        name: str,
        batches: Iterable[Any] | None = None,
        *,
        forward: Forward | None = None,
        loss: Loss | None = None,
        trial: Trial | None = None,
        init: str | Initialisation = "zero_out",
    ) -> tuple[Edit, ...]:
        """Begin task `name`: ask the policies what to grow for it.

        Args:
            name: Of the task.
            batches: A few batches of the task, for policies that measure.
            forward: How a batch goes through the model.
            loss: (model, batch) -> the task's loss, for policies that measure gradients.
            trial: A short training run on copies, see `Trial`, for `GrowByNeed`; run once more
                when the task has begun, for `reached`.
            init: How fresh units start, see `Structure.apply`.

        Returns:
            The edits made, in order.

        Raises:
            PlanError: The name was used before, or a policy lacks what it measures.
        """
        situation = self._situation("begin", batches, forward, loss=loss, trial=trial)
        plans = self._plans(situation, self._decide)
        self.structure.begin_task(name)
        self._open = True
        edits = self._carry_out(plans, init)
        if trial is not None:
            self.reached = (*self.reached, trial_loss(self.mas, trial))
        return edits

    def end_task(
        self,
        batches: Iterable[Any],
        *,
        forward: Forward | None = None,
        loss: Loss | None = None,
        metrics: Metrics | None = None,
    ) -> tuple[Edit, ...]:
        """End the task: consolidate importance on `batches`, prune, write a snapshot.

        If a policy refuses, importance and statistics are as before, and the call can be repeated.

        Args:
            batches: Unlabelled data of the task, see `mas_importance`.
            forward: How a batch goes through the model, for instance to the task's own head.
            loss: (model, batch) -> the task's loss, for policies of your own.
            metrics: Name -> function of the model, higher is better, for `PruneWithin`.

        Returns:
            The edits made, in order.

        Raises:
            PlanError: No task is open, or a policy lacks what it measures.
        """
        if not self._open:
            raise PlanError("end_task without a task: call begin_task(name) first")
        batches = list(batches) if isinstance(batches, Iterator) else batches
        with self._restored(always=False):
            self._take_in(batches, forward)
            situation = self._situation("end", batches, forward, loss=loss, metrics=metrics)
            plans = self._plans(situation, self._decide)
        edits = self._carry_out(plans)
        if self._tracker is not None:
            self._tracker.snapshot(omega=self.mas.omega)
        self._ages.steps += 1
        self._open = False
        return edits

    def step(
        self,
        batches: Iterable[Any] | None = None,
        *,
        forward: Forward | None = None,
        loss: Loss | None = None,
        trial: Trial | None = None,
        metrics: Metrics | None = None,
        init: str | Initialisation = "zero_out",
    ) -> tuple[Edit, ...]:
        """Ask every policy now: for loops without tasks, or in the middle of one.

        Importance is not consolidated: do that where the loop knows a plateau, before. Without
        named tasks, a unit's age is the number of steps since its birth.

        Args:
            batches: Data to measure on, which reconstruction learns from as well.
            forward: How a batch goes through the model.
            loss: See `begin_task`.
            trial: See `begin_task`.
            metrics: See `end_task`.
            init: See `begin_task`.

        Returns:
            The edits made, in order.
        """
        batches = list(batches) if isinstance(batches, Iterator) else batches
        with self._restored(always=False):
            if self.statistics is not None and batches is not None:
                self.statistics.update(batches, forward=forward)
            options: dict[str, Any] = {"loss": loss, "trial": trial, "metrics": metrics}
            situation = self._situation("step", batches, forward, **options)
            plans = self._plans(situation, self._decide)
        edits = self._carry_out(plans, init)
        self._ages.steps += 1
        return edits

    def propose(
        self,
        moment: Moment,
        batches: Iterable[Any] | None = None,
        *,
        forward: Forward | None = None,
        loss: Loss | None = None,
        trial: Trial | None = None,
        metrics: Metrics | None = None,
    ) -> tuple[Plan, ...]:
        """The plans that would be put to `decide` and carried out; everything stays as it is.

        Args:
            moment: "begin", as the next `begin_task` would; "end"; or "step".
            batches: As for `begin_task`, `end_task` and `step`; also the following.
            forward: How a batch goes through the model.
            loss: (model, batch) -> the task's loss.
            trial: A short training run on copies.
            metrics: Name -> function of the model.

        Raises:
            PlanError: Another word for `moment`, "end" without a task or data, or whatever the
                policies refuse.
        """
        if moment not in ("begin", "end", "step"):
            raise PlanError(f"moment={moment!r}: expected 'begin', 'end' or 'step'")
        if moment == "end" and (not self._open or batches is None):
            raise PlanError("propose('end', batches) needs an open task and its batches")
        batches = list(batches) if isinstance(batches, Iterator) else batches
        with self._restored(always=True):
            if moment == "end" and batches is not None:
                self._take_in(batches, forward)
            elif moment == "step" and batches is not None and self.statistics is not None:
                self.statistics.update(batches, forward=forward)
            options: dict[str, Any] = {"loss": loss, "trial": trial, "metrics": metrics}
            situation = self._situation(moment, batches, forward, **options)
            return tuple(plan for _, plan in self._plans(situation, None))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and JSON values: ages, trial losses and statistics; `mas` has its own."""
        return {
            "open": self._open,
            "ages": self._ages.state_dict(),
            "reached": list(self.reached),
            "statistics": None if self.statistics is None else self.statistics.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, once the structure has been restored.

        Raises:
            DataError: Something is missing, or the statistics are of other layers or widths;
                nothing is taken over then.
        """
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise DataError(f"the manager's state lacks {', '.join(missing)}")
        if self.statistics is not None:
            if state["statistics"] is None:
                raise DataError(
                    "the manager's state holds no statistics, but a policy reconstructs: give its "
                    "policies reconstruct=False, or the policies with which it was saved"
                )
            self.statistics.load_state_dict(state["statistics"])
        self._ages.load_state_dict(state["ages"])
        self._open = bool(state["open"])
        self.reached = tuple(float(loss) for loss in state["reached"])

    def _check(self) -> None:
        named = {type(policy).__name__: policy.named() for policy in self._policies}
        problems = group_problems(self.structure, named)
        if self.mas.model is not self.structure.model:
            problems.append("mas is of another network than the structure")
        if problems:
            raise PlanError("; ".join(problems))
        self.budget.check(self.structure)

    def _situation(
        self,
        moment: Moment,
        batches: Iterable[Any] | None,
        forward: Forward | None,
        *,
        loss: Loss | None = None,
        trial: Trial | None = None,
        metrics: Metrics | None = None,
    ) -> Situation:
        tasks = len(self.structure.tasks)
        task = tasks if moment == "begin" else tasks - 1
        return Situation(
            moment,
            self.structure,
            self.mas,
            self._ages.of(self.structure, None if moment == "step" and not tasks else task),
            first=moment == "begin" and not tasks,
            reached=self.reached,
            budget=self.budget,
            statistics=self.statistics,
            batches=list(batches) if isinstance(batches, Iterator) else batches,
            forward=forward,
            loss=loss,
            trial=trial,
            metrics=metrics or {},
        )

    def _plans(self, situation: Situation, decide: Decide | None) -> list[tuple[Policy, Plan]]:
        """What every policy proposes, made to fit what those before it planned."""
        found: list[tuple[Policy, Plan]] = []
        for policy in self._policies:
            if situation.moment not in policy.moments:
                continue
            here = replace(situation, planned=merged(*(plan for _, plan in found)))
            plan = self._fitting(policy.propose(here), here.planned)
            if plan and decide is not None:
                decided = decide(plan)
                plan = Plan() if decided is None else self._fitting(decided, here.planned)
            if plan:
                found.append((policy, plan))
        return found

    def _fitting(self, plan: Plan, planned: Plan) -> Plan:
        plan.check(self.structure.groups, self.structure.fixed)
        plan = without(replace(plan, fingerprint=None), planned)
        return self.budget.trim(self.structure, plan, planned)

    def _carry_out(
        self, plans: list[tuple[Policy, Plan]], init: str | Initialisation = "zero_out"
    ) -> tuple[Edit, ...]:
        return tuple(
            self.structure.apply(
                plan,
                followers=self._followers,
                init=init if plan.added else "zero_out",
                reconstruct=self.statistics if plan.removed and policy.reconstruct else None,
            )
            for policy, plan in plans
        )

    def _take_in(self, batches: Iterable[Any], forward: Forward | None) -> None:
        self.mas.consolidate(batches, forward=forward)
        if self.statistics is not None:
            self.statistics.update(batches, forward=forward)

    @contextmanager
    def _restored(self, *, always: bool) -> Iterator[None]:
        """Give importance and statistics back as they were: always, or on an error only."""
        held = [part for part in (self.mas, self.statistics) if part is not None]
        kept = [(part, dict(vars(part))) for part in held]
        done = False
        try:
            yield
            done = not always
        finally:
            for part, attributes in kept if not done else ():
                vars(part).clear()
                vars(part).update(attributes)


def _several(key: str, policies: Policies) -> tuple[Policy, ...]:
    """Policies as a tuple.

    Raises:
        PlanError: Something is not a policy.
    """
    found = (policies,) if isinstance(policies, Policy) else tuple(policies or ())
    wrong = [policy for policy in found if not isinstance(policy, Policy)]
    if wrong:
        raise PlanError(f"{key}={wrong[0]!r}: expected a policy, such as GrowPolicy(units=8)")
    return found
