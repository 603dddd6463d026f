"""Several plans for one occasion, and what planning leaves behind: nothing."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

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
    """Why a policy proposes something, for programs; see `Plan.cause`.

    Args:
        policy: The policy.
        statistic: What it measured, in a few words.
        value: What it found: a number, or numbers by group.
        threshold: What that was compared with, likewise; None for a policy that compares nothing.
    """
    cause = {"policy": type(policy).__name__, "statistic": statistic, "value": _finite(value)}
    return cause if threshold is None else {**cause, "threshold": _finite(threshold)}


def _finite(value: object) -> object:
    """JSON has no word for numbers that are not finite: None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


@contextmanager
def restored(*holders: object, always: bool) -> Iterator[None]:
    """Give objects the attributes back that they had: always, or on an error only.

    For objects that bind new values to attributes and change none in place, as `MAS.consolidate`
    and `ActivationStatistics.update` do.
    """
    kept = [(holder, dict(vars(holder))) for holder in holders if holder is not None]
    restore = True
    try:
        yield
        restore = always
    finally:
        for holder, attributes in kept if restore else ():
            vars(holder).clear()
            vars(holder).update(attributes)
