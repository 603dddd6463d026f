"""The check of a structure: what is listed as growing or shrinking is tried once.

Several groups are tried at once, in parts of which for any two groups one has the first and not
the second: a group that works only together with another one is refused in it. Of four groups a,
b, c and d the parts are

    a b c    a d    b d    c        in 4 parts, each group in 2 of them

Only where a part is refused, groups that differ in their numbers alone are tried in parts of their
own, and then one by one. So a network of 70 groups without surprises takes 8 trials. Groups that
share the output of a layer are tried apart, since a change of both may hide that neither can change
alone: of `x[:, : x.shape[1] // 2]` both halves grow, or none.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from math import comb

from growmas.errors import GrowmasError
from growmas.structure.inspection.dry_run import measure_with_plan
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike

_GROWN = 3
"""Units that are added on trial: an odd number, which divisions by two do not hide."""


@dataclass(frozen=True)
class Refusals:
    """Abilities that failed, by group name, each with the reason.

    Attributes:
        growing: Groups that cannot grow.
        shrinking: Groups that cannot shrink.
        approximating: Groups that cannot even shrink approximately.
    """

    growing: dict[str, str]
    shrinking: dict[str, str]
    approximating: dict[str, str]


def refusals(structure: StructureLike) -> Refusals:
    """Try every ability of every group once; the network is as before afterwards."""
    groups = structure.groups
    growing = [name for name, group in groups.items() if group.can_grow]
    wide = {name: group for name, group in groups.items() if group.width > 1}
    shrinking = [name for name, group in wide.items() if group.can_shrink]
    approximately = [n for n, group in wide.items() if group.approximate and not group.can_shrink]

    def pruned(names: Sequence[str]) -> Plan:
        halves = {name: groups[name].unit_ids[: groups[name].width // 2] for name in names}
        return Plan(prune=halves, approximate=True)

    return Refusals(
        dict(_failing(structure, growing, lambda names: Plan(grow=dict.fromkeys(names, _GROWN)))),
        dict(_failing(structure, shrinking, pruned)),
        dict(_failing(structure, approximately, pruned)),
    )


def _failing(
    structure: StructureLike, names: Sequence[str], plan: Callable[[Sequence[str]], Plan]
) -> list[tuple[str, str]]:
    """Return the names for which a plan is refused, with the reason."""
    return [
        pair for some in _apart(structure, names) for pair in _failing_apart(structure, some, plan)
    ]


def _apart(structure: StructureLike, names: Sequence[str]) -> list[list[str]]:
    """Divide groups so that no two of a part share the output of a layer.

    Layers that keep channels apart, such as a norm behind a concatenation, do not count.
    """
    parts: list[tuple[list[str], set[str]]] = []
    for name in names:
        members = structure.groups[name].members
        given = {m.layer for m in members if m.side == "out" and m.axes.into}
        for part, taken in parts:
            if taken.isdisjoint(given):
                part.append(name)
                taken |= given
                break
        else:
            parts.append(([name], set(given)))
    return [part for part, _ in parts]


def _failing_apart(
    structure: StructureLike, names: Sequence[str], plan: Callable[[Sequence[str]], Plan]
) -> list[tuple[str, str]]:
    """Return those of some groups that fail, which share no output of a layer."""
    if not _any_refused(structure, names, plan):
        return []
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    if len(alike) == 1:
        return _failing_alike(structure, names, plan)
    return [
        pair
        for some in alike.values()
        if _any_refused(structure, some, plan)
        for pair in _failing_alike(structure, some, plan)
    ]


def _any_refused(
    structure: StructureLike, names: Sequence[str], plan: Callable[[Sequence[str]], Plan]
) -> bool:
    """Return True if some of the groups fail, alone or together with others."""
    return any(_refusal(structure, plan(part)) for part in separating(names))


def separating(names: Sequence[str]) -> list[list[str]]:
    """Return parts of names: for any two of them, one part has the first and not the second.

    Each name lies in another half of the parts, so that none lies in all parts of another. There
    is no smaller number of parts (Sperner, Math. Z. 27, 1928).
    """
    parts = next(n for n in count(1) if comb(n, max(1, n // 2)) >= len(names))
    chosen = combinations(range(parts), max(1, parts // 2))
    held = dict(zip(names, chosen, strict=False))
    return [[name for name in names if part in held[name]] for part in range(parts)]


def _failing_alike(
    structure: StructureLike, names: Sequence[str], plan: Callable[[Sequence[str]], Plan]
) -> list[tuple[str, str]]:
    """Return those of some groups that fail, of which a part is refused.

    Groups that differ in their numbers alone fail alike: if the first and the last of them are
    refused, so are those between.
    """
    first, last = _refusal(structure, plan(names[:1])), _refusal(structure, plan(names[-1:]))
    if first and last:
        return [(name, last if name == names[-1] else first) for name in names]
    singly = {names[0]: first, names[-1]: last}
    between = ((name, _refusal(structure, plan([name]))) for name in names[1:-1])
    return [(name, why) for name, why in {**singly, **dict(between)}.items() if why]


def _refusal(structure: StructureLike, plan: Plan) -> str:
    """Return why a plan is refused, or nothing."""
    try:
        measure_with_plan(structure, plan, lambda: None)
    except GrowmasError as error:
        return f"it was tried, and refused: {error}"
    return ""
