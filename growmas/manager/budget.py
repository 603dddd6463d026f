"""Limits on the size and the cost of a network."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from growmas.errors import PlanError
from growmas.manager.checks import check_number, check_parts
from growmas.manager.plans import merged
from growmas.manager.size import size_after
from growmas.structure import Cost, Plan, Structure


@dataclass(frozen=True)
class Budget:
    """Limits that growth never exceeds; None sets no limit.

    A plan that would exceed them is trimmed: all its numbers of fresh units shrink in proportion,
    rounded down, until it fits. Units that a plan removes are always removed, and make room for
    others in the same plan.

    Parameters and units are counted from shapes. A limit on FLOPs needs a copy of the model and a
    forward pass for each candidate, so it is the slower one.

    Attributes:
        parameters: Largest number of parameters of the model.
        flops: Largest number of FLOPs of one sample, counted as for `Explanation`.
        units: Largest number of living units, over all groups.
    """

    parameters: int | None = None
    flops: int | None = None
    units: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that are not positive whole numbers."""
        for part in fields(self):
            limit = getattr(self, part.name)
            if limit is not None:
                words = "a whole number >= 1, or None for no limit"
                check_number(f"Budget {part.name}", limit, words, lambda n: n >= 1, whole=True)

    def __bool__(self) -> bool:
        """Return True if there is any limit."""
        return any(getattr(self, part.name) is not None for part in fields(self))

    def excess(self, cost: Cost) -> dict[str, tuple[int, int]]:
        """Return the parts of a cost above their limit: name -> the cost and the limit."""
        numbers = {"parameters": cost.parameters, "units": cost.units}
        if self.flops is not None:
            numbers["flops"] = cost.counted_flops()
        return _above(self, numbers)

    def check(self, structure: Structure) -> None:
        """Refuse a network that is already too large.

        Raises:
            PlanError: Names the limits and the numbers of the network.
        """
        whole = self.flops is not None
        over = self.excess(structure.cost()) if whole else self._excess_after(structure, Plan())
        if over:
            listed = ", ".join(
                f"{limit:,} {name} where the network has {now:,}"
                for name, (now, limit) in over.items()
            )
            raise PlanError(f"the budget is smaller than the network: {listed}; raise it")

    def trim(self, structure: Structure, plan: Plan, planned: Plan | None = None) -> Plan:
        """Return the plan with fewer fresh units, so that the network stays within the limits.

        Units that replace others are not trimmed: they keep the width constant.

        Args:
            structure: The network; it is not touched.
            plan: The plan to trim.
            planned: A plan that will be carried out before it.

        Raises:
            PlanError: `structure` or `plan` is something else, or a plan does not fit the network.
        """
        check_parts({"structure": (structure, Structure), "plan": (plan, Plan)})
        before = planned or Plan()
        most = max(plan.grow.values(), default=0)
        if not self or not most or self._fits(structure, merged(before, plan)):
            return plan
        low, high = 0, most  # the plan at `low` in `most` fits, that at `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(structure, merged(before, _scaled(plan, middle, most))):
                low = middle
            else:
                high = middle
        asked, left = sum(plan.grow.values()), _scaled(plan, low, most)
        granted = sum(left.grow.values())
        limits = ", ".join(
            f"{limit:,} {part.name}"
            for part in fields(self)
            if (limit := getattr(self, part.name)) is not None
        )
        note = f"{granted} of {asked} units fit the budget of {limits}"
        return replace(left, reason=f"{plan.reason}; {note}" if plan.reason else note)

    def _fits(self, structure: Structure, plan: Plan) -> bool:
        """Return True if the network with `plan` carried out is within the limits."""
        return not self._excess_after(structure, plan)

    def _excess_after(self, structure: Structure, plan: Plan) -> dict[str, tuple[int, int]]:
        """Return what is above its limit after a plan, by the cheapest way to know."""
        over: dict[str, tuple[int, int]] = {}
        if self.parameters is not None or self.units is not None:
            over = _above(self, size_after(structure, plan)._asdict())
        if self.flops is not None and not over:
            over = self.excess(structure.cost(plan))
        return over


def _above(budget: Budget, numbers: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return the numbers above their limit: name -> the number and the limit."""
    return {
        name: (number, limit)
        for name, number in numbers.items()
        if (limit := getattr(budget, name)) is not None and number > limit
    }


def _scaled(plan: Plan, part: int, whole: int) -> Plan:
    """Return the plan with `part` of `whole` of its fresh units, rounded down."""
    grow = {name: count * part // whole for name, count in plan.grow.items()}
    return replace(plan, grow={name: count for name, count in grow.items() if count})
