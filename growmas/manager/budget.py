"""What a network may cost at most."""

from dataclasses import dataclass, fields, replace

from growmas.errors import PlanError
from growmas.manager.checks import check_number
from growmas.manager.plans import merged
from growmas.structure import Cost, Plan, Structure


@dataclass(frozen=True)
class Budget:
    """Limits that growing never exceeds; None sets no limit.

    A plan that would is trimmed: all its numbers of fresh units shrink in proportion, rounded
    down, until it fits. What a plan removes is always removed, and makes room in the same plan.

    Attributes:
        parameters: Most parameters of the model.
        flops: Most FLOPs of a forward pass of the structure's example inputs, see `Explanation`.
        units: Most living units, over all groups.
    """

    parameters: int | None = None
    flops: int | None = None
    units: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a positive whole number."""
        for part in fields(self):
            limit = getattr(self, part.name)
            if limit is not None:
                words = "a whole number >= 1, or None for no limit"
                check_number(f"Budget {part.name}", limit, words, lambda n: n >= 1, whole=True)

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return any(getattr(self, part.name) is not None for part in fields(self))

    def excess(self, cost: Cost) -> dict[str, tuple[int, int]]:
        """What of a cost is above its limit: name -> the cost and the limit."""
        return {
            part.name: (getattr(cost, part.name), limit)
            for part in fields(self)
            if (limit := getattr(self, part.name)) is not None and getattr(cost, part.name) > limit
        }

    def check(self, structure: Structure) -> None:
        """Refuse a network that is too large already.

        Raises:
            PlanError: Names the limits and what the network has.
        """
        over = self.excess(structure.cost()) if self else {}
        if over:
            listed = ", ".join(
                f"{limit:,} {name} where the network has {now:,}"
                for name, (now, limit) in over.items()
            )
            raise PlanError(f"the budget is smaller than the network: {listed}; raise it")

    def trim(self, structure: Structure, plan: Plan, planned: Plan | None = None) -> Plan:
        """The plan with fewer fresh units, so that the network stays within the limits.

        Units that replace others stay: they are at constant width.

        Args:
            structure: The network.
            plan: What is to be trimmed.
            planned: What will be carried out before.
        """
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
        return not self.excess(structure.cost(plan))


def _scaled(plan: Plan, part: int, whole: int) -> Plan:
    grow = {name: count * part // whole for name, count in plan.grow.items()}
    return replace(plan, grow={name: count for name, count in grow.items() if count})
