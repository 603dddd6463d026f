"""The policies of a manager, asked in turn."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from growmas.errors import PlanError
from growmas.manager.budget import Budget
from growmas.manager.checks import group_problems
from growmas.manager.plans import merged, without
from growmas.manager.situation import Policy, Situation
from growmas.structure import Plan, Structure

Policies = Policy | Sequence[Policy] | None
Decide = Callable[[Plan], Plan | None]


class Council:
    """Asks every policy for a plan, and makes the plans fit each other and the budget.

    Attributes:
        policies: In the order in which they are asked.
        budget: To which plans are trimmed.
    """

    def __init__(
        self, structure: Structure, policies: Sequence[Policy], budget: Budget | None
    ) -> None:
        """Bring the policies together.

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
        """Whether any policy reconstructs what it removes."""
        return any(policy.reconstruct for policy in self.policies)

    def plans(
        self, situation: Situation, decide: Decide | None, only: Policies = None
    ) -> list[tuple[Policy, Plan]]:
        """What the policies propose, each made to fit what those before it planned.

        Args:
            situation: The occasion.
            decide: Is shown every plan: returns it, another, or None for a veto.
            only: Ask these alone; None asks all.

        Raises:
            PlanError: What comes is no plan or does not fit, what it removes cannot be
                reconstructed for want of data, or `only` names others' policies.
        """
        found: list[tuple[Policy, Plan]] = []
        for policy in self._asked(only):
            if situation.moment not in policy.moments:
                continue
            here = replace(situation, planned=merged(*(plan for _, plan in found)))
            plan = self._fitting(policy.propose(here), here.planned, type(policy).__name__)
            if plan and decide is not None:
                decided = decide(plan)
                if decided is None:
                    continue
                plan = self._fitting(decided, here.planned, "decide")
            if plan:
                _check_seen(policy, plan, situation)
                found.append((policy, plan))
        return found

    def _asked(self, only: Policies) -> tuple[Policy, ...]:
        if only is None:
            return self.policies
        chosen = several("only", only)
        foreign = [policy for policy in chosen if policy not in self.policies]
        if foreign:
            raise PlanError(f"only={foreign[0]!r}: not a policy of this manager")
        return chosen

    def _fitting(self, plan: Plan, planned: Plan, whose: str) -> Plan:
        if not isinstance(plan, Plan):
            raise PlanError(f"{whose} gave {plan!r:.80}: expected a Plan, an empty one for nothing")
        plan.check(self._structure.groups, self._structure.fixed)
        plan = without(replace(plan, fingerprint=None), planned)
        return self.budget.trim(self._structure, plan, planned)


def _check_seen(policy: Policy, plan: Plan, situation: Situation) -> None:
    held = situation.statistics
    if not (policy.reconstruct and plan.removed and held is not None and held.moments):
        return
    if not any(moments.count for moments in held.moments.values()):
        raise PlanError(
            f"{type(policy).__name__} reconstructs what it removes, but no data was seen yet: give "
            "step(batches), or the policy reconstruct=False"
        )


def several(key: str, policies: Policies) -> tuple[Policy, ...]:
    """Policies as a tuple.

    Raises:
        PlanError: Something is not a policy.
    """
    if policies is None:
        return ()
    found = tuple(policies) if isinstance(policies, Iterable) else (policies,)
    for policy in found:
        if not isinstance(policy, Policy):
            raise PlanError(f"{key}={policy!r}: expected a policy, such as GrowPolicy(units=8)")
    return found
