"""When to grow and when to prune: policies propose plans, the manager carries them out."""

from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, Literal

from torch.optim import Optimizer

from growmas.batches import Forward, data_that_fits
from growmas.errors import DataError, PlanError, SurgeryError
from growmas.history.tracker import TopologyTracker
from growmas.manager.budget import Budget
from growmas.manager.checks import check_parts
from growmas.manager.contrib.need import trial_loss
from growmas.manager.council import Council, Decide, Policies, several
from growmas.manager.memory import Memory
from growmas.manager.plans import restored
from growmas.manager.situation import Loss, Moment, Policy, Situation, Trial
from growmas.penalty import MAS, HardProtection
from growmas.structure import ActivationStatistics, Edit, Initialisation, Plan, Structure
from growmas.structure.followers.followers import as_followers, check_followers
from growmas.structure.initialisation.initialisation import Init, initialisation
from growmas.structure.inspection.dry_run import Metrics

Norms = Literal["statistics", "affine"] | None
"""What is remembered of norms for the views of tasks."""


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
        protect: What freezes the most important entries; None where nothing does.
        followers: What follows every edit; give it to `structure.apply` and `structure.grow_head`
            when you change the network yourself.
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
        protect: HardProtection | None = None,
        norms: Norms = "statistics",
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
            protect: Freezes more at the end of each task, and follows every edit; `optimizer` is
                guarded, so that its steps leave frozen entries bit-identical.
            norms: What is remembered of norms at the end of each task for its view, where there
                are norms with running statistics: their "statistics"; weight and bias as well,
                "affine"; or None.

        Raises:
            PlanError: A policy names a group that does not exist, the budget is smaller than the
                network, `mas` or `protect` is of another network, a part is something else, or an
                unknown word for `norms`.
            SurgeryError: One of `followers`, or `optimizer`, cannot follow.
        """
        _check_made_of(structure, mas, budget, protect, tracker, decide)
        if norms not in ("statistics", "affine", None):
            raise PlanError(f"norms={norms!r}: expected 'statistics', 'affine' or None")
        self.structure = structure
        self.mas = mas
        policies = (*several("grow", grow), *several("prune", prune))
        self._council = Council(structure, policies, budget)
        self._decide = decide
        self.budget = self._council.budget
        self.statistics = ActivationStatistics(structure) if self._council.reconstructs else None
        self._memory = Memory(open=bool(structure.tasks))
        self.protect = protect
        self._norms = norms
        parts = (optimizer, mas, self.statistics, self._memory, protect)
        self.followers = (*(part for part in parts if part is not None), *as_followers(followers))
        check_followers(self.followers, structure.model)
        if protect is not None and isinstance(optimizer, Optimizer):
            protect.guard(optimizer)
        self._tracker = tracker

    def begin_task(
        self,
        name: str,
        batches: Iterable[Any] | None = None,
        *,
        forward: Forward | None = None,
        loss: Loss | None = None,
        trial: Trial | None = None,
        init: Init | Initialisation = "zero_out",
    ) -> tuple[Edit, ...]:
        """Begin task `name`: ask what to grow for it. Returns the edits made, in order.

        Args:
            name: Of the task.
            batches: A few batches of the task, for policies that measure.
            forward: How a batch goes through the model.
            loss: (model, batch) -> the task's loss, for policies that measure gradients.
            trial: A short training run on copies, for `GrowByNeed`; and for `reached`.
            init: How fresh units start, see `Structure.apply`.

        Raises:
            PlanError: The name was used before, or a policy lacks what it measures.
        """
        self._check_may_edit("begin_task")
        initialisation(init)
        given = {"forward": forward, "loss": loss, "trial": trial}
        situation = self._situation("begin", batches, given)
        with data_that_fits():
            plans = self._council.plans(situation, self._decide)
        self.structure.begin_task(name)
        self._memory.open = True
        edits = self._carry_out(plans, init)
        if trial is not None:
            self._memory.reached = (*self.reached, trial_loss(self.mas, trial))
        return edits

    def end_task(
        self,
        batches: Iterable[Any],
        *,
        forward: Forward | None = None,
        metrics: Metrics | None = None,
    ) -> tuple[Edit, ...]:
        """End the task: consolidate importance, prune, freeze. Returns the edits made, in order.

        Then the norms are remembered for the task's view, and the tracker gets its snapshot.
        If a policy refuses, importance and statistics are as before, and the call can be repeated.

        Args:
            batches: Unlabelled data of the task, see `mas_importance`.
            forward: How a batch goes through the model, for instance to the task's own head.
            metrics: Name -> function of the model, higher is better, for `PruneWithin`.

        Raises:
            PlanError: No task is open, or a policy lacks what it measures.
            DataError: A batch does not go through the network.
        """
        self._check_may_edit("end_task")
        if not self._memory.open:
            raise PlanError("end_task without a task: call begin_task(name) first")
        if batches is None:
            raise PlanError("end_task needs data to measure importance on: end_task(batches)")
        batches = _kept(batches)
        with restored(self.mas, self.statistics, always=False), data_that_fits():
            self._take_in("end", batches, forward)
            given = {"forward": forward, "metrics": metrics or {}}
            situation = self._situation("end", batches, given)
            plans = self._council.plans(situation, self._decide)
        self._memory.open = False
        edits = self._carry_out(plans)
        if self.protect is not None:
            self.protect.freeze(self.mas.omega)
        if self._norms is not None:
            self.structure.remember_norms(affine=self._norms == "affine")
        if self._tracker is not None:
            self._tracker.snapshot(omega=self.mas.omega)
        self._memory.steps += 1
        return edits

    def step(
        self,
        batches: Iterable[Any] | None = None,
        *,
        forward: Forward | None = None,
        loss: Loss | None = None,
        trial: Trial | None = None,
        metrics: Metrics | None = None,
        init: Init | Initialisation = "zero_out",
        only: Policies = None,
    ) -> tuple[Edit, ...]:
        """Ask the policies now, with or without tasks. Returns the edits made, in order.

        Importance is not consolidated: do that where the loop knows a plateau, before. Without
        named tasks, a unit's age is the number of steps since its birth.

        Args:
            batches: Data to measure on; without named tasks, also what reconstruction learns from.
            forward: How a batch goes through the model.
            loss: See `begin_task`; also for the following.
            trial: A short training run on copies.
            metrics: See `end_task`.
            init: How fresh units start.
            only: Ask these of the manager's policies alone.

        Raises:
            PlanError: A policy lacks what it measures, or `only` names others' policies.
            SurgeryError: A view is held; so for the other two.
        """
        self._check_may_edit("step")
        initialisation(init)
        batches = _kept(batches)
        with restored(self.mas, self.statistics, always=False), data_that_fits():
            self._take_in("step", batches, forward)
            given = {"forward": forward, "loss": loss, "trial": trial, "metrics": metrics or {}}
            situation = self._situation("step", batches, given)
            plans = self._council.plans(situation, self._decide, only)
        edits = self._carry_out(plans, init)
        self._memory.steps += 1
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
        if moment == "end" and (not self._memory.open or batches is None):
            raise PlanError("propose('end', batches) needs an open task and its batches")
        batches = _kept(batches)
        with restored(self.mas, self.statistics, always=True), data_that_fits():
            self._take_in(moment, batches, forward)
            given = {"forward": forward, "loss": loss, "trial": trial, "metrics": metrics or {}}
            situation = self._situation(moment, batches, given)
            return tuple(plan for _, plan in self._council.plans(situation, None))

    @property
    def reached(self) -> tuple[float, ...]:
        """The losses that the trials of tasks reached, after what was grown for them."""
        return self._memory.reached

    def state_dict(self) -> dict[str, Any]:
        """Tensors and JSON values: what it remembers, and statistics; `mas` has its own."""
        held = None if self.statistics is None else self.statistics.state_dict()
        protect = None if self.protect is None else self.protect.state_dict()
        return {**self._memory.state_dict(), "statistics": held, "protect": protect}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, once the structure has been restored.

        Raises:
            DataError: Something is missing, or the statistics are of other layers or widths.
            PenaltyError: What is frozen is of other parameters.
        """
        if (self.protect is None) != (state.get("protect") is None):
            raise DataError(
                f"the manager has {'no ' if self.protect is None else ''}hard protection and its "
                "state has the contrary: give it protect= as when it was saved"
            )
        if self.statistics is not None:
            if state.get("statistics") is None:
                raise DataError(
                    "the manager's state holds no statistics, but a policy reconstructs: give its "
                    "policies reconstruct=False, or the policies with which it was saved"
                )
            self.statistics.load_state_dict(state["statistics"])
        self._memory.load_state_dict(state)
        if self.protect is not None:
            self.protect.load_state_dict(state["protect"])

    def _check_may_edit(self, what: str) -> None:
        if self.structure.viewed:
            raise SurgeryError(f"{what} cannot be done inside a view: leave it first")

    def _situation(
        self, moment: Moment, batches: Iterable[Any] | None, given: Mapping[str, Any]
    ) -> Situation:
        for key in ("forward", "loss", "trial"):
            if given.get(key) is not None and not callable(given[key]):
                raise PlanError(f"{key}={given[key]!r:.80}: expected a function, or None")
        tasks = len(self.structure.tasks)
        task = tasks if moment == "begin" else tasks - 1
        return Situation(
            moment,
            self.structure,
            self.mas,
            self._memory.ages(self.structure, None if moment == "step" and not tasks else task),
            substitutes=self._memory.substitutes,
            first=moment == "begin" and not tasks,
            reached=self.reached,
            budget=self.budget,
            statistics=self.statistics,
            batches=_kept(batches),
            **given,
        )

    def _carry_out(
        self, plans: list[tuple[Policy, Plan]], init: Init | Initialisation = "zero_out"
    ) -> tuple[Edit, ...]:
        return tuple(
            self.structure.apply(
                plan,
                followers=self.followers,
                init=init if plan.added else "zero_out",
                reconstruct=self.statistics if plan.removed and policy.reconstruct else None,
            )
            for policy, plan in plans
        )

    def _take_in(self, moment: Moment, batches: Any, forward: Forward | None) -> None:
        """Learn from the data of a task at its end, and from those of a step without tasks."""
        if batches is None or moment == "begin" or (moment == "step" and self.structure.tasks):
            return
        if moment == "end":
            self.mas.consolidate(batches, forward=forward)
        if self.statistics is not None:
            self.statistics.update(batches, forward=forward)


def _check_made_of(
    structure: Structure,
    mas: MAS,
    budget: Budget | None,
    protect: HardProtection | None,
    tracker: TopologyTracker | None,
    decide: Decide | None,
) -> None:
    check_parts(
        {
            "structure": (structure, Structure),
            "mas": (mas, MAS),
            "budget": (budget, (Budget, NoneType)),
            "protect": (protect, (HardProtection, NoneType)),
            "tracker": (tracker, (TopologyTracker, NoneType)),
        }
    )
    if not (decide is None or callable(decide)):
        raise PlanError(f"decide={decide!r:.80}: expected a function of a plan, or None")
    for name, part in (("mas", mas), ("protect", protect)):
        if part is not None and part.model is not structure.model:
            raise PlanError(f"{name} is of another network than the structure")


def _kept(batches: Any) -> Any:
    """Batches that can be gone through several times."""
    return list(batches) if isinstance(batches, Iterator) else batches
