"""Several plans for one occasion."""

from collections.abc import Collection
from dataclasses import replace

from growmas.structure import Plan


def merged(*plans: Plan) -> Plan:
    """The plans as one; numbers of fresh units add up."""
    prune: dict[str, tuple[int, ...]] = {}
    grow: dict[str, int] = {}
    replace: dict[str, tuple[int, ...]] = {}
    for plan in plans:
        for name, ids in plan.prune.items():
            prune[name] = (*prune.get(name, ()), *ids)
        for name, ids in plan.replace.items():
            replace[name] = (*replace.get(name, ()), *ids)
        for name, count in plan.grow.items():
            grow[name] = grow.get(name, 0) + count
    reasons = "; ".join(plan.reason for plan in plans if plan.reason)
    return Plan(prune, grow, replace, reasons)


def without(plan: Plan, doomed: Plan) -> Plan:
    """The plan without the units that another plan removes already."""
    if not plan.removed or not doomed.removed:
        return plan

    def left(name: str, ids: Collection[int]) -> tuple[int, ...]:
        gone = doomed.removed.get(name, ())
        return tuple(unit for unit in ids if unit not in gone)

    prune = {name: left(name, ids) for name, ids in plan.prune.items()}
    substitutes = {name: left(name, ids) for name, ids in plan.replace.items()}
    return replace(plan, prune=prune, replace=substitutes)
