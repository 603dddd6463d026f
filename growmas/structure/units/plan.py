"""What is to be changed: a plan is data, made before anything happens."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup

FORMAT = 1

AT_THE_OUTPUT = "it reaches the output of the network"
"""Why the last layers are no groups: a plan may not change the shape of the answer."""


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Explains(Protocol[T_co]):
    """A `Structure`, as far as `Plan.explain` asks it."""

    def explain(self, plan: "Plan") -> T_co:
        """Return what `plan` would do."""
        ...


@dataclass(frozen=True)
class Plan:
    """Units to remove, by id, and numbers of units to add, by group.

    A plan may do everything at once, also in the same group. Ids are never used again, so a plan
    made for units that are gone by now is refused. `Structure.plan` makes one that is refused
    after any other change of its groups as well.

    Attributes:
        prune: Group name -> ids of the units to remove.
        grow: Group name -> how many fresh units to add.
        replace: Group name -> ids of units that give their place to as many fresh ones, at
            constant width. The fresh units have ids of their own: see `Edit.replaced_units`.
        reason: Why, in a few words; it goes into the history.
        cause: The same for programs: JSON values by name, for a policy's plan "policy",
            "statistic", "value" and "threshold"; it goes into the history.
        fingerprint: Group name -> ids of its living units when the plan was made; None for a
            plan that is checked by its own ids alone.
    """

    prune: Mapping[str, Sequence[int]] = field(default_factory=dict)
    grow: Mapping[str, int] = field(default_factory=dict)
    replace: Mapping[str, Sequence[int]] = field(default_factory=dict)
    reason: str = ""
    fingerprint: Mapping[str, Sequence[int]] | None = None
    cause: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hold plain integers, so that equal plans are equal and can be written as JSON."""
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

    def __bool__(self) -> bool:
        """Whether the plan changes anything."""
        return any(self.prune.values()) or any(self.grow.values()) or any(self.replace.values())

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """Group name -> ids of all units that go, pruned and replaced."""
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
        """Names of the groups the plan speaks of."""
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
        if problems:
            raise PlanError("the plan does not fit the network: " + "; ".join(problems))

    def explain(self, structure: Explains[T]) -> T:
        """Return `structure.explain(self)`: the change of widths, parameters and FLOPs.

        Raises:
            PlanError: The plan does not fit the network.
        """
        return structure.explain(self)

    def to_json(self) -> str:
        """The plan as JSON text; `Plan.from_json` gives an equal plan back."""
        content = {part.name: getattr(self, part.name) for part in fields(self)}
        return json.dumps({"growmas_plan": FORMAT, **content})

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan that `to_json` wrote.

        Raises:
            PlanError: The text is not a plan; every problem is listed.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(f"not a plan, not even JSON: {error}") from error
        problems = _content_problems(content)
        if problems:
            raise PlanError("not a plan that Plan.to_json wrote: " + "; ".join(problems))
        return cls(
            **{part.name: content[part.name] for part in fields(cls) if part.name in content}
        )


def _plain(number: Any) -> Any:
    """An `int` where a number is one in numpy's or torch's clothes; else what it was."""
    try:
        return number if isinstance(number, bool) else number.__index__()
    except (AttributeError, TypeError, ValueError):
        return number


def _plain_json(cause: Any) -> Any:
    """JSON values as they come back from JSON.

    Raises:
        PlanError: They are none.
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
    """Refuse what is no plan.

    Raises:
        PlanError: It is something else.
    """
    if not isinstance(plan, Plan):
        raise PlanError(f"expected a Plan, got {plan!r:.80}: write Plan(prune=..., grow=...)")


def unknown_group(name: str, groups: Mapping[str, UnitGroup], fixed: Mapping[str, str]) -> str:
    """What is wrong with a name that is none of the groups', with the nearest one."""
    if name in fixed:
        hint = (
            f"; classes are added with structure.grow_head({name!r}, ...)"
            if fixed[name].startswith(AT_THE_OUTPUT)
            else ""
        )
        return f"group {name!r} cannot change: {fixed[name]}{hint}"
    near = get_close_matches(name, groups, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(groups) or 'none'}"
    return f"no group {name!r}; {hint}"


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
        problems.append(f"{name!r}: {_ids(both)} both to prune and to replace; name them once")
    removed, added = plan.removed.get(name, ()), plan.added.get(name, 0)
    if removed and group.no_shrink:
        problems.append(f"{name!r} cannot shrink: {group.no_shrink}")
    if added and group.no_grow:
        problems.append(f"{name!r} cannot grow: {group.no_grow}")
    if not problems and len(removed) >= group.width and not added:
        problems.append(f"prune {name!r}: all {group.width} units would go; leave at least one")
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
        "make it anew with structure.plan(...)"
    ]


def _id_problems(action: str, group: UnitGroup, ids: Sequence[Any]) -> list[str]:
    living, name = set(group.unit_ids), group.name
    unborn = [unit for unit in ids if type(unit) is not int or not 0 <= unit < group.next_id]
    born = [unit for unit in ids if unit not in unborn]
    dead = [unit for unit in born if unit not in living]
    problems = [f"{action} {name!r}: no unit {unit!r} was ever born" for unit in unborn]
    if dead:
        problems.append(f"{action} {name!r}: already gone: {', '.join(map(str, dead))}")
    if len(set(born)) < len(born):
        problems.append(f"{action} {name!r}: a unit is named twice")
    return problems


def _ids(units: Sequence[int]) -> str:
    return f"unit{'s' if len(units) > 1 else ''} {', '.join(map(str, units))}"


def _content_problems(content: Any) -> list[str]:
    if not isinstance(content, dict) or content.get("growmas_plan") != FORMAT:
        return [f"expected an object with growmas_plan = {FORMAT}"]
    known = {part.name for part in fields(Plan)}
    problems = [f"unknown key {key!r}" for key in content.keys() - known - {"growmas_plan"}]
    problems += [f"missing key {key!r}" for key in known - {"cause"} - content.keys()]
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
