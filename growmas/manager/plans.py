"""Plans of several policies for one occasion, and the cause that a policy gives."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from growmas.structure import Plan


def merged(*plans: Plan) -> Plan:
    """Return the plans as one; numbers of fresh units add up."""
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
    causes = [dict(plan.cause) for plan in plans if plan.cause]
    cause = causes[0] if len(causes) == 1 else {"causes": causes} if causes else {}
    return Plan(prune, grow, replace, reasons, cause=cause)


def cause_of(
    policy: object,
    statistic: str,
    *,
    value: object,
    threshold: object = None,
) -> dict[str, Any]:
    """Return why a policy proposes something, as JSON values for `Plan.cause`.

    Args:
        policy: The policy.
        statistic: The quantity it measured, in a few words.
        value: The value found: a number, or numbers by group.
        threshold: The number, or numbers by group, that the value was compared with; None for a
            policy that compares nothing.
    """
    cause = {"policy": type(policy).__name__, "statistic": statistic, "value": _finite(value)}
    return cause if threshold is None else {**cause, "threshold": _finite(threshold)}


def _finite(value: object) -> object:
    """Replace numbers that are not finite, which JSON lacks, by None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def without(plan: Plan, planned: Plan) -> Plan:
    """Return the plan without the units that `planned` removes already."""
    if not plan.removed or not planned.removed:
        return plan

    def left(name: str, ids: Collection[int]) -> tuple[int, ...]:
        gone = planned.removed.get(name, ())
        return tuple(unit for unit in ids if unit not in gone)

    prune = {name: left(name, ids) for name, ids in plan.prune.items()}
    substitutes = {name: left(name, ids) for name, ids in plan.replace.items()}
    return replace(plan, prune=prune, replace=substitutes)
