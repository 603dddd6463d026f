"""The structural manager, which carries out the plans that policies propose."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, get_args

from torch import Tensor
from torch.optim import Optimizer

from growmas.batches import Forward, check_batches, data_that_fits, reusable
from growmas.errors import PlanError
from growmas.history.tracker import TopologyTracker
from growmas.manager.birth import BirthProtection
from growmas.manager.budget import Budget
from growmas.manager.checks import check_functions, check_word
from growmas.manager.low_utility import ReplaceLowUtility, plasticity_of
from growmas.manager.parts import (
    Checkpointed,
    Norms,
    Protection,
    check_manager_parts,
    check_outside_views,
    described,
    freeze,
    left_to_tasks,
    needs_importance,
    protection_of,
    remember,
    resume,
    trackers_of,
)
from growmas.manager.policy import Policy
from growmas.manager.policy_sequence import Decide, Policies, PolicySequence, as_policies
from growmas.manager.progress import Progress
from growmas.manager.rollback import rolled_back
from growmas.manager.situation import Loss, Moment, Situation, Trial
from growmas.manager.transaction import transactional
from growmas.manager.trial import trial_loss
from growmas.penalty import MAS
from growmas.structure import ActivationStatistics, Edit, Initialisation, Plan, Structure
from growmas.structure.followers.followers import as_followers, check_followers
from growmas.structure.initialisation.initialisation import Init, initialisation
from growmas.structure.inspection.dry_run import Metrics
from growmas.structure.views.unit_constants import UnitConstant


class StructuralManager(Checkpointed):
    """Grows a network before each new task and prunes it after, in a loop of your own.

    At the beginning of a task, at its end, or at any `step` of a loop without tasks, every policy
    is asked for a plan, one after another. Each plan is trimmed to the budget, passed to `decide`,
    and carried out through the structure, so that optimizer, penalty and tracker follow. The
    reason of a plan, with policy, statistic and threshold, is written to the history.

    A unit that several policies remove on one occasion is removed by the first of them; numbers of
    fresh units add up.

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
        structure: The units of the network.
        mas: Importance and anchors over tasks.
        statistics: Statistics from which removed units are reconstructed, or None.
        budget: The limits of growth.
        protect: Freezes the most important entries or the units of earlier tasks, or None.
        plasticity: Replaces units of low utility; None without `ReplaceLowUtility`.
        followers: Everything that follows an edit; pass it to edits of your own.
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
        protect: Protection | Literal["old"] | None = None,
        norms: Norms = "statistics",
        per_task: UnitConstant | Collection[UnitConstant] = (),
    ) -> None:
        """Put the parts together.

        Args:
            structure: The units of the network.
            mas: Consolidated at the end of each task; follows every edit.
            optimizer: Follows every edit.
            tracker: Gets a snapshot at the end of each task.
            grow: One policy or several, asked in this order, before those of `prune`.
            prune: One policy or several; their `moments` alone say when they are asked.
            followers: Everything else that must follow each edit.
            budget: The limits of growth; None sets no limit.
            decide: Called with every plan; returns it, another one, or None for a veto.
            protect: Freezes more entries at the end of each task, which `optimizer` leaves alone: a
                `HardProtection`, a `BirthProtection`, also by the word "old", or an
                `AutoProtection`. Units frozen by birth need no importance.
            norms: The part of norms that is stored at the end of each task for its view:
                "statistics"; "affine", weight and bias as well; or None.
            per_task: "gains", "biases" or both: every task has those of all units for itself, as
                part of its view. Penalty and protection leave them alone.

        Raises:
            PlanError: A policy names a group that does not exist, the budget is smaller than the
                network, or a part is of another network or has the wrong type.
            SurgeryError: `optimizer` or one of `followers` cannot follow.
        """
        protect = protection_of(protect, structure)
        check_manager_parts(structure, mas, budget, protect, tracker, decide, norms)
        self.structure = structure
        self.mas = mas
        policies = (*as_policies("grow", grow), *as_policies("prune", prune))
        self._policies = PolicySequence(structure, policies, budget)
        self._decide = decide
        self.budget = self._policies.budget
        self.statistics = ActivationStatistics(structure) if self._policies.reconstructs else None
        self._progress = Progress(open=bool(structure.tasks))
        self.protect = protect
        self._norms = norms
        self._per_task = left_to_tasks(structure, per_task, mas, protect)
        parts = (optimizer, mas, self.statistics, self._progress, protect)
        self.followers = (*(part for part in parts if part is not None), *as_followers(followers))
        check_followers(self.followers, structure.model)
        if protect is not None and isinstance(optimizer, Optimizer):
            protect.guard(optimizer)
        self._tracker = tracker
        frozen = protect.frozen_units if isinstance(protect, BirthProtection) else None
        self.plasticity = plasticity_of(
            policies, structure, optimizer, mas, self.followers, frozen=frozen
        )
        self.followers += () if self.plasticity is None else self.plasticity.new_warmups

    def __repr__(self) -> str:
        return described(self, self.structure, self._policies.policies, self.budget)

    @transactional
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
        """Begin task `name`: grow for it. Return the edits made, in order.

        A task that was learnt before is resumed, see `Structure.begin_task`: policies are not
        asked, and `end_task` then consolidates, prunes and stores norms under the same name.

        Args:
            name: Name of the task.
            batches: A few batches of the task, for policies that measure.
            forward: How a batch goes through the model.
            loss: (model, batch) -> the task's loss, for policies that measure gradients.
            trial: A short training run on copies, for `GrowByNeed` and for `reached`.
            init: How fresh units start, see `Structure.apply`.

        Raises:
            PlanError: A task of that name is open, or a policy lacks what it measures.
            SurgeryError: The call was made inside a view.
        """
        check_outside_views(self.structure, "begin_task")
        initialisation(init)
        if name in self.structure.tasks:
            resume(self.structure, name, open=self._progress.open, protect=self.protect)
            self._progress.open = True
            return ()
        given = {"forward": forward, "loss": loss, "trial": trial}
        situation = self._situation("begin", batches, given)
        with data_that_fits():
            plans = self._decided(situation)
        self.structure.begin_task(name)
        self._progress.open = True
        edits = self._carry_out(plans, init)
        if trial is not None:
            self._progress.reached = (*self.reached, trial_loss(self.mas, trial))
        return edits

    @transactional
    def end_task(
        self,
        batches: Iterable[Any],
        *,
        forward: Forward | None = None,
        metrics: Metrics | None = None,
    ) -> tuple[Edit, ...]:
        """End the task: consolidate importance, prune, freeze. Return the edits made, in order.

        Then the norms are stored for the task's view, and the tracker gets its snapshot. If a
        policy refuses, importance and statistics are as before, and the call can be repeated.

        Args:
            batches: Unlabelled data of the task, see `mas_importance`.
            forward: How a batch goes through the model, for instance to the task's own head.
            metrics: Name -> function of the model, higher is better, for `PruneWithin`.

        Raises:
            PlanError: No task is open, or a policy lacks what it measures.
            DataError: A batch does not go through the network.
            SurgeryError: The call was made inside a view.
        """
        check_outside_views(self.structure, "end_task")
        if not self._progress.open:
            raise PlanError("end_task without an open task: call begin_task(name) first")
        if batches is None:
            raise PlanError("end_task needs data to measure importance on: end_task(batches)")
        batches = reusable(batches)
        with rolled_back(self.mas, self.statistics, always=False), data_that_fits():
            self._take_in("end", batches, forward)
            given = {"forward": forward, "metrics": metrics or {}}
            situation = self._situation("end", batches, given)
            plans = self._decided(situation)
        self._progress.open = False
        edits = self._carry_out(plans)
        freeze(self.protect, self.mas, batches, forward)
        remember(self.structure, self._norms, self._per_task)
        if self._tracker is not None:
            self._tracker.snapshot(omega=self.mas.omega or None)
        self._progress.steps += 1
        return edits

    def step(
        self,
        batches: Any = None,
        *,
        forward: Forward | None = None,
        loss: Loss | None = None,
        trial: Trial | None = None,
        metrics: Metrics | None = None,
        init: Init | Initialisation = "zero_out",
        only: Policies = None,
    ) -> tuple[Edit, ...]:
        """Ask the policies now, with or without tasks. Return the edits made, in order.

        Importance is not consolidated: call `mas.consolidate` before, where the loop has found a
        plateau. Without named tasks, a unit's age is the number of steps since its birth.
        Ask `ReplaceLowUtility` after every step of the optimizer: alone, by `only=`, where other
        policies are not to be asked as often.

        Args:
            batches: Data to measure on; without named tasks, reconstruction learns from them too.
            forward: How a batch goes through the model.
            loss: (model, batch) -> the task's loss, for policies that measure gradients.
            trial: A short training run on copies, for `GrowByNeed`.
            metrics: Name -> function of the model, higher is better, for `PruneWithin`.
            init: How fresh units start, see `Structure.apply`.
            only: Policies of this manager to ask; None asks all.

        Raises:
            PlanError: A policy lacks what it measures, or `only` is of another manager.
            SurgeryError: The call was made inside a view.
        """
        check_outside_views(self.structure, "step")
        asked = self._policies.asked(only)
        low = [policy for policy in asked if isinstance(policy, ReplaceLowUtility)]
        edits: tuple[Edit, ...] = ()
        if len(low) < len(asked) or not asked:
            given = {"forward": forward, "loss": loss, "trial": trial, "metrics": metrics or {}}
            edits = self._ask(batches, given, init, only)
        if low and self.plasticity is not None:
            edits += self.plasticity.step(batches, forward=forward)
        self._progress.steps += 1
        return edits

    @transactional
    def _ask(
        self,
        batches: Iterable[Any] | None,
        given: Mapping[str, Any],
        init: Init | Initialisation,
        only: Policies,
    ) -> tuple[Edit, ...]:
        """Ask the policies for plans, and carry them out."""
        initialisation(init)
        batches = [batches] if isinstance(batches, Tensor | dict) else reusable(batches)
        with rolled_back(self.mas, self.statistics, always=False), data_that_fits():
            self._take_in("step", batches, given["forward"])
            situation = self._situation("step", batches, given)
            plans = self._decided(situation, only)
        return self._carry_out(plans, init)

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
        """Return the plans that would be passed to `decide` and carried out; change nothing.

        Args:
            moment: "begin", as the next `begin_task` would ask; "end"; or "step".
            batches: Data, as for `begin_task`, `end_task` or `step`.
            forward: How a batch goes through the model.
            loss: (model, batch) -> the task's loss.
            trial: A short training run on copies.
            metrics: Name -> function of the model.

        Raises:
            PlanError: An unknown word for `moment`, "end" without an open task or data, or a
                policy refuses.
        """
        check_word("moment", moment, get_args(Moment))
        if moment == "end" and (not self._progress.open or batches is None):
            raise PlanError("propose('end', batches) needs an open task and its batches")
        batches = reusable(batches)
        with rolled_back(self.mas, self.statistics, always=True), data_that_fits():
            self._take_in(moment, batches, forward)
            given = {"forward": forward, "loss": loss, "trial": trial, "metrics": metrics or {}}
            situation = self._situation(moment, batches, given)
            return tuple(plan for _, plan in self._policies.plans(situation, None))

    @property
    def changing_parts(self) -> tuple[object, ...]:
        """Parts that a step changes besides structure and followers."""
        return (self, self._progress, *self._policies.policies)

    @property
    def trackers(self) -> tuple[TopologyTracker, ...]:
        """The histories that a step writes to."""
        return trackers_of(self._tracker, self.structure)

    def _situation(
        self, moment: Moment, batches: Iterable[Any] | None, given: Mapping[str, Any]
    ) -> Situation:
        """Return the occasion, for the policies."""
        check_functions(given)
        if batches is not None and moment != "end":  # where `consolidate` has checked them
            check_batches(batches)
        tasks = len(self.structure.tasks)
        task = tasks if moment == "begin" else tasks - 1
        return Situation(
            moment,
            self.structure,
            self.mas,
            self._progress.ages(self.structure, None if moment == "step" and not tasks else task),
            substitutes=self._progress.substitutes,
            mates=self._progress.mates,
            first=moment == "begin" and not tasks,
            reached=self.reached,
            budget=self.budget,
            statistics=self.statistics,
            batches=reusable(batches),
            **given,
        )

    def _carry_out(
        self, plans: list[tuple[Policy, Plan]], init: Init | Initialisation = "zero_out"
    ) -> tuple[Edit, ...]:
        """Apply the plans in order, with every follower."""
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
        """Learn from the data of a task at its end, and of a step without tasks."""
        if batches is None or moment == "begin" or (moment == "step" and self.structure.tasks):
            return
        needed = self._policies.read_importance or needs_importance(self.protect)
        if moment == "end" and needed:
            self._consolidate(batches, forward)
        if self.statistics is not None:
            self._observe(self.statistics, batches, forward)

    def _consolidate(self, batches: Iterable[Any], forward: Forward | None) -> None:
        self.mas.consolidate(batches, forward=forward)

    def _observe(self, held: ActivationStatistics, data: Any, forward: Forward | None) -> None:
        held.update(data, forward=forward)

    def _decided(self, situation: Situation, only: Policies = None) -> list[tuple[Policy, Plan]]:
        """Return the plans to carry out."""
        return self._policies.plans(situation, self._decide, only)
