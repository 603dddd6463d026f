"""Plans: which units to remove and how many to add, as data that can be checked and stored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.rounding import check_round_to, rounded_plan
from growmas.suggestion import suggestion

FORMAT = 1

AT_THE_OUTPUT = "it reaches the output of the network"
"""Reason why the last layers are not groups: a plan may not change the shape of the output."""


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Explains(Protocol[T_co]):
    """An object that can explain a plan, as a `Structure` can."""

    def explain(self, plan: "Plan") -> T_co:
        """Return the effects that `plan` would have."""
        ...


@dataclass(frozen=True)
class Plan:
    """Units to remove, by id, and numbers of units to add, by group.

    A plan may prune, grow and replace at once, also in the same group. Ids are never reused, so a
    plan for units that have been removed since is refused. A plan made by `Structure.plan` is
    refused after any other change of its groups too.

    Attributes:
        prune: Group name -> ids of the units to remove.
        grow: Group name -> number of fresh units to add.
        replace: Group name -> ids of units to replace by as many fresh ones, so that the width
            stays. The fresh units have ids of their own: see `Edit.replaced_units`.
        reason: The reason in a few words; it goes into the history.
        cause: The reason for programs, JSON values by name; the plan of a policy has "policy",
            "statistic", "value" and "threshold". It goes into the history.
        fingerprint: Group name -> ids of its living units when the plan was made; None for a
            plan that is checked by its own ids alone.
        approximate: True lets units go that pass norms over all channels (the width of a
            transformer), although the function of the others changes. The verification is then
            only that the network runs; `Structure.dry_run` says how far its outputs move.
        round_to: Multiple that the number of channels of every group is rounded up to, or group
            name -> multiple. Kernels are fast for multiples of 8.
    """

    prune: Mapping[str, Sequence[int]] = field(default_factory=dict)
    grow: Mapping[str, int] = field(default_factory=dict)
    replace: Mapping[str, Sequence[int]] = field(default_factory=dict)
    reason: str = ""
    fingerprint: Mapping[str, Sequence[int]] | None = None
    cause: Mapping[str, Any] = field(default_factory=dict)
    approximate: bool = False
    round_to: int | Mapping[str, int] = 1

    def __post_init__(self) -> None:
        """Convert numbers to plain integers, so that plans can be compared and written as JSON."""
        for name in ("prune", "grow", "replace"):
            if not isinstance(getattr(self, name), Mapping):
                raise PlanError(
                    f"{name}={getattr(self, name)!r:.80}: expected a dict by group name, such as "
                    + ("{'fc1': 8}" if name == "grow" else "{'fc1': [3, 17]}")
                )
        for name in ("prune", "replace", "fingerprint"):
            ids = getattr(self, name)
            if ids is not None:
                plain = {group: _plain_ids(name, group, units) for group, units in ids.items()}
                object.__setattr__(self, name, plain)
        grow = {group: _plain(count) for group, count in self.grow.items()}
        object.__setattr__(self, "grow", grow)
        object.__setattr__(self, "cause", _plain_json(self.cause))
        if not isinstance(self.approximate, bool):
            raise PlanError(f"approximate={self.approximate!r:.80}: expected True or False")
        check_round_to(self.round_to)

    def __bool__(self) -> bool:
        """Return True if the plan changes anything."""
        return any(self.prune.values()) or any(self.grow.values()) or any(self.replace.values())

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """Group name -> ids of all units that are removed, pruned and replaced ones."""
        return {
            name: (*self.prune.get(name, ()), *self.replace.get(name, ()))
            for name in dict.fromkeys([*self.prune, *self.replace])
            if len(self.prune.get(name, ())) + len(self.replace.get(name, ()))
        }

    @property
    def added(self) -> dict[str, int]:
        """Group name -> number of all fresh units; those that replace others come last."""
        return {
            name: self.grow.get(name, 0) + len(self.replace.get(name, ()))
            for name in dict.fromkeys([*self.grow, *self.replace])
            if self.grow.get(name, 0) or len(self.replace.get(name, ()))
        }

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups in the plan."""
        return tuple(dict.fromkeys([*self.prune, *self.grow, *self.replace]))

    def check(self, groups: Mapping[str, UnitGroup], fixed: Mapping[str, str]) -> None:
        """Refuse a plan that does not fit the network.

        Args:
            groups: The groups of the network.
            fixed: Groups that cannot change, with the reason.

        Raises:
            PlanError: Lists every problem of the plan at once.
        """
        problems = [
            problem
            for name in self.groups
            for problem in (
                _group_problems(self, groups[name])
                if name in groups
                else [unknown_group(name, groups, fixed)]
            )
        ]
        if isinstance(self.round_to, Mapping):
            problems += [
                f"round_to: {unknown_group(name, groups, fixed)}"
                for name in self.round_to
                if name not in groups
            ]
        if problems:
            raise PlanError("the plan does not fit the network: " + "; ".join(problems))

    def rounded(self, groups: Mapping[str, UnitGroup]) -> "Plan":
        """Return the plan with the widths that it leaves rounded up to multiples of `round_to`.

        A group that grows gets more units; one that only shrinks keeps the last of the units
        named, so name first what matters least.

        Args:
            groups: The groups of the network, which the plan fits.

        Raises:
            PlanError: No width that the plan allows is a multiple; every problem is listed.
        """
        if self.round_to == 1:
            return self
        prune, grow = rounded_plan(self.prune, self.grow, self.round_to, groups)
        return replace(self, prune=prune, grow=grow, round_to=1)

    def explain(self, structure: Explains[T]) -> T:
        """Return the change of widths, parameters and FLOPs, as `structure.explain` counts it.

        Raises:
            PlanError: The plan does not fit the network; every problem is listed.
        """
        return structure.explain(self)

    def to_json(self) -> str:
        """Return the plan as JSON text, from which `Plan.from_json` makes an equal plan."""
        content = {part.name: getattr(self, part.name) for part in fields(self)}
        return json.dumps({"growmas_plan": FORMAT, **content})

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan that `to_json` wrote.

        Raises:
            PlanError: The text is not a plan; every problem is listed.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(f"expected what Plan.to_json wrote, got no JSON: {error}") from error
        problems = _content_problems(content)
        if problems:
            raise PlanError("expected what Plan.to_json wrote: " + "; ".join(problems))
        return cls(
            **{part.name: content[part.name] for part in fields(cls) if part.name in content}
        )


def _plain(number: Any) -> Any:
    """Return an integer of numpy or torch as an `int`, anything else as it is."""
    try:
        return number if isinstance(number, bool) else number.__index__()
    except (AttributeError, TypeError, ValueError):
        return number


def _plain_json(cause: Any) -> Any:
    """Return JSON values as they come back from JSON: tuples as lists, keys as text.

    Raises:
        PlanError: They are not JSON values by name.
    """
    try:
        plain = json.loads(json.dumps(cause, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PlanError(f"cause: expected JSON values by name, got {cause!r} ({error})") from error
    if not isinstance(plain, dict):
        raise PlanError(f"cause: expected JSON values by name, got {cause!r}")
    return plain


def _plain_ids(action: str, group: str, ids: Any) -> tuple[Any, ...]:
    try:
        return tuple(map(_plain, ids))
    except TypeError as error:
        raise PlanError(f"{action} {group!r}: expected a list of ids, got {ids!r}") from error


def check_is_plan(plan: Any) -> None:
    """Refuse anything that is not a plan.

    Raises:
        PlanError: Says what it is.
    """
    if not isinstance(plan, Plan):
        raise PlanError(f"expected a Plan, got {plan!r:.80}: write Plan(prune=..., grow=...)")


_ONE_GROUP = (
    ". The size of a head, and the query heads of a group with common keys and values, cannot "
    "change by themselves: their rows would be units of two groups"
)


def unknown_group(name: str, groups: Mapping[str, UnitGroup], fixed: Mapping[str, str]) -> str:
    """Return the error message for a name that is not among the groups."""
    if name in fixed:
        hint = (
            f"; classes are added with structure.grow_head({name!r}, ...)"
            if fixed[name].startswith(AT_THE_OUTPUT)
            else ""
        )
        return f"group {name!r} cannot change: {fixed[name]}{hint}"
    holders = [g for g in groups.values() if any(m.layer == name and m.axes.out for m in g.members)]
    if not holders:
        return f"no group {name!r}; {suggestion(name, groups, 'group')}"
    held = ", ".join(f"{group.name!r} ({group.width} {group.kind})" for group in holders)
    heads = any("heads" in group.kind for group in holders)
    return f"no group {name!r}; what {name!r} gives or reads belongs to {held}" + _ONE_GROUP * heads


def _group_problems(plan: Plan, group: UnitGroup) -> list[str]:
    name = group.name
    count = plan.grow.get(name, 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        return [f"grow {name!r}: expected a number of units >= 0, got {count!r}"]
    problems = _staleness(plan, group)
    for action, ids in (("prune", plan.prune), ("replace", plan.replace)):
        problems += _id_problems(action, group, ids.get(name, ()))
    both = [unit for unit in plan.replace.get(name, ()) if unit in plan.prune.get(name, ())]
    if both:
        problems.append(f"{name!r}: {_ids(both)} in prune and in replace; name each unit once")
    removed, added = plan.removed.get(name, ()), plan.added.get(name, 0)
    if removed and group.no_shrink and not (plan.approximate and group.approximate):
        hint = "; Plan(approximate=True) removes units all the same" * group.approximate
        problems.append(f"{name!r} cannot shrink: {group.no_shrink}{hint}")
    if added and group.no_grow:
        problems.append(f"{name!r} cannot grow: {group.no_grow}")
    if not problems and len(removed) >= group.width and not added:
        problems.append(
            f"prune {name!r}: all {group.width} units would be removed; leave at least one"
        )
    return problems


def _staleness(plan: Plan, group: UnitGroup) -> list[str]:
    if plan.fingerprint is None:
        return []
    then, now = plan.fingerprint.get(group.name), group.unit_ids
    if then is None:
        return [f"{group.name!r} is not in the plan's fingerprint"]
    lost, won = sorted({*then} - {*now}), sorted({*now} - {*then})
    changes = [f"lost {_ids(lost)}"] * bool(lost) + [f"gained {_ids(won)}"] * bool(won)
    if not changes:
        return []
    return [
        f"the plan is stale: since it was made {group.name!r} has {' and '.join(changes)}; "
        "make a new plan with structure.plan(...)"
    ]


def _id_problems(action: str, group: UnitGroup, ids: Sequence[Any]) -> list[str]:
    living, name = set(group.unit_ids), group.name
    unknown = [unit for unit in ids if type(unit) is not int or not 0 <= unit < group.next_id]
    known = [unit for unit in ids if unit not in unknown]
    dead = [unit for unit in known if unit not in living]
    ids_so_far = f"(ids so far: 0 to {group.next_id - 1})"
    problems = [f"{action} {name!r}: unit {unit!r} does not exist {ids_so_far}" for unit in unknown]
    if dead:
        problems.append(f"{action} {name!r}: {_ids(dead)} already removed")
    if len(set(known)) < len(known):
        problems.append(f"{action} {name!r}: a unit is named twice")
    return problems


def _ids(units: Sequence[int]) -> str:
    return f"unit{'s' if len(units) > 1 else ''} {', '.join(map(str, units))}"


def _content_problems(content: Any) -> list[str]:
    if not isinstance(content, dict) or content.get("growmas_plan") != FORMAT:
        return [f"expected an object with growmas_plan = {FORMAT}"]
    known = {part.name for part in fields(Plan)}
    problems = [f"unknown key {key!r}" for key in content.keys() - known - {"growmas_plan"}]
    problems += [
        f"missing key {key!r}"
        for key in known - {"cause", "approximate", "round_to"} - content.keys()
    ]
    for key in ("prune", "replace", "fingerprint"):
        ids = content.get(key, {})
        if not (_is_id_lists(ids) or (key == "fingerprint" and ids is None)):
            problems.append(f"{key}: expected lists of ids by group, got {ids!r}")
    grow = content.get("grow", {})
    if not isinstance(grow, dict) or not all(type(count) is int for count in grow.values()):
        problems.append(f"grow: expected numbers by group, got {grow!r}")
    if not isinstance(content.get("reason", ""), str):
        problems.append(f"reason: expected text, got {content['reason']!r}")
    if not isinstance(content.get("cause", {}), dict):
        problems.append(f"cause: expected values by name, got {content['cause']!r}")
    return sorted(problems)


def _is_id_lists(ids: Any) -> bool:
    return isinstance(ids, dict) and all(
        isinstance(units, list) and all(type(unit) is int for unit in units)
        for units in ids.values()
    )
