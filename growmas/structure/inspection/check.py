"""The check of a structure: what is listed as growing or shrinking is tried once.

All groups are tried at once. Only if that is refused, halves of them are, down to single groups, so
that a network without surprises costs four forward passes whatever its size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from growmas.errors import GrowmasError
from growmas.structure.inspection.dry_run import measure_with_plan
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike


@dataclass(frozen=True)
class Refusals:
    """What failed, by group name, each with the reason.

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
        return Plan(prune={name: groups[name].unit_ids[:1] for name in names}, approximate=True)

    return Refusals(
        dict(_failing(structure, growing, lambda names: Plan(grow=dict.fromkeys(names, 1)))),
        dict(_failing(structure, shrinking, pruned)),
        dict(_failing(structure, approximately, pruned)),
    )


def _failing(
    structure: StructureLike, names: Sequence[str], plan: Callable[[Sequence[str]], Plan]
) -> list[tuple[str, str]]:
    """Return the names for which a plan is refused, with the reason."""
    if not names:
        return []
    try:
        measure_with_plan(structure, plan(names), lambda: None)
    except GrowmasError as error:
        if len(names) == 1:
            return [(names[0], f"it was tried, and refused: {error}")]
        half = len(names) // 2
        first = _failing(structure, names[:half], plan)
        return first + _failing(structure, names[half:], plan)
    return []
