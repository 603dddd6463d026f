"""The policies of a manager, asked one after another."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from growmas.errors import PlanError
from growmas.manager.budget import Budget
from growmas.manager.checks import group_problems
from growmas.manager.mates import with_mates
from growmas.manager.plans import merged, without
from growmas.manager.policy import Policy, check_complete
from growmas.manager.situation import Situation
from growmas.structure import Plan, Structure

Policies = Policy | Sequence[Policy] | None
Decide = Callable[[Plan], Plan | None]


class PolicySequence:
    """Ask every policy for a plan, and make the plans fit each other and the budget.

    A unit that several policies remove on one occasion is removed by the first of them; the later
    plans are carried out without it. Numbers of fresh units add up. A unit that is pruned takes
    its mates with it as long as they do the same (see `Paired`).

    Attributes:
        policies: In the order in which they are asked.
        budget: The limits to which plans are trimmed.
    """

    def __init__(
        self, structure: Structure, policies: Sequence[Policy], budget: Budget | None
    ) -> None:
        """Check the policies against the network.

        Raises:
            PlanError: A policy names a group that does not exist, or the budget is smaller than
                the network.
        """
        self.policies = tuple(policies)
        self.budget = budget or Budget()
        self._structure = structure
        problems = group_problems(structure, {type(p).__name__: p.named() for p in self.policies})
        if problems:
            raise PlanError("; ".join(problems))
        self.budget.check(structure)

    @property
    def reconstructs(self) -> bool:
        """True if any policy reconstructs what it removes."""
        return any(policy.reconstruct for policy in self.policies)

    @property
    def read_importance(self) -> bool:
        """True if any policy reads the importance over tasks."""
        return any(policy.reads_importance for policy in self.policies)

    def plans(
        self, situation: Situation, decide: Decide | None, only: Policies = None
    ) -> list[tuple[Policy, Plan]]:
        """Return the policies' plans, each made to fit those of the policies before it.

        Args:
            situation: The occasion.
            decide: Called with every plan: returns it, another one, or None for a veto.
            only: Policies to ask; None asks all.

        Raises:
            PlanError: A policy returns something that is not a plan or does not fit, there are no
                data to reconstruct what it removes, or `only` names a policy of another manager.
        """
        found: list[tuple[Policy, Plan]] = []
        for policy in self.asked(only):
            if situation.moment not in policy.moments:
                continue
            here = replace(situation, planned=merged(*(plan for _, plan in found)))
            proposed = with_mates(policy.propose(here), here)
            plan = self._fitting(proposed, here.planned, type(policy).__name__)
            if plan and decide is not None:
                decided = decide(plan)
                if decided is None:
                    continue
                plan = self._fitting(decided, here.planned, "decide")
            if plan:
                _check_data_seen(policy, plan, situation)
                found.append((policy, plan))
        return found

    def asked(self, only: Policies) -> tuple[Policy, ...]:
        """Return the policies to ask."""
        if only is None:
            return self.policies
        chosen = as_policies("only", only)
        foreign = [policy for policy in chosen if policy not in self.policies]
        if foreign:
            raise PlanError(
                f"only={foreign[0]!r} is not a policy of this manager: give one of those that were "
                "passed as grow= or prune="
            )
        return chosen

    def _fitting(self, plan: Plan, planned: Plan, whose: str) -> Plan:
        """Return the plan, checked, without what is planned already and within the budget."""
        if not isinstance(plan, Plan):
            raise PlanError(
                f"{whose} returned {plan!r:.80}: expected a Plan, an empty one for nothing"
            )
        plan.check(self._structure.groups, self._structure.fixed)
        plan = without(replace(plan, fingerprint=None), planned)
        if planned and plan:
            try:
                merged(planned, plan).check(self._structure.groups, self._structure.fixed)
            except PlanError as error:
                raise PlanError(
                    f"{whose}, together with the plans of the policies before it: {error}"
                ) from error
        return self.budget.trim(self._structure, plan, planned)


def as_policies(key: str, policies: Policies) -> tuple[Policy, ...]:
    """Return one policy, several or None as a tuple.

    Args:
        key: Name of the argument, for the message.
        policies: What was given.

    Raises:
        PlanError: Something is not a policy.
    """
    if policies is None:
        return ()
    found = tuple(policies) if isinstance(policies, Iterable) else (policies,)
    for policy in found:
        if not isinstance(policy, Policy):
            raise PlanError(f"{key}={policy!r:.80}: expected a policy, such as GrowPolicy(units=8)")
        check_complete(policy)
    return found


def _check_data_seen(policy: Policy, plan: Plan, situation: Situation) -> None:
    """Refuse to reconstruct from statistics of no samples."""
    held = situation.statistics
    if not (policy.reconstruct and plan.removed and held is not None and held.moments):
        return
    if not any(moments.count for moments in held.moments.values()):
        raise PlanError(
            f"{type(policy).__name__} reconstructs what it removes, but no data was seen yet: give "
            "step(batches), or the policy reconstruct=False"
        )
