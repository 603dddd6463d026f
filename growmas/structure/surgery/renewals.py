"""The renewals of a structure: what is cached between them, and what listeners have not heard."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.errors import PlanError
from growmas.structure.followers.followers import follow
from growmas.structure.followers.warmup import Warmup
from growmas.structure.initialisation.paired import families
from growmas.structure.surgery.renewal import (
    Entries,
    changes_of,
    draw,
    entries_of,
    kept_entries,
    mark_young,
    put_back,
    renew_state,
    renewal_obstacle,
    renewed_group,
    touched,
)
from growmas.structure.surgery.transaction import Settle, undoing
from growmas.structure.surgery.verification import check_outputs
from growmas.structure.units.edit import Edit
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.plan import Plan
from growmas.structure.views.overrides import masked

MOST_UNTOLD = 1000
"""Number of renewed units after which listeners hear of them."""


@dataclass(frozen=True, eq=False)
class Renewing:
    """The part of a structure that a renewal needs.

    Attributes:
        model: The network.
        groups: Group name -> group.
        task: Index of the current task.
        outputs: Returns the outputs on the example inputs.
        settle: Gives the structure new groups; returns a function that takes them back.
        followers: Objects that follow; optimizers and warm-ups are changed in place.
        generator: Randomness, on the CPU; None takes torch's own.
        paired: True for families of mates; False for columns of zero.
    """

    model: nn.Module
    groups: Mapping[str, UnitGroup]
    task: int
    outputs: Callable[[], list[Tensor]]
    settle: Settle
    followers: tuple[object, ...]
    generator: torch.Generator | None
    paired: bool


class Renewals:
    """Entries of groups, the groups that were verified once, and edits not yet told.

    Attributes:
        untold: Renewals that listeners have not heard of, oldest first.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.untold: list[Edit] = []
        self._entries: dict[str, tuple[Any, tuple[Entries, ...]]] = {}
        self._verified: set[str] = set()

    def __deepcopy__(self, memo: object) -> "Renewals":
        """Return one that knows nothing: its modules are those of another model."""
        return Renewals()

    def entries(self, model: nn.Module, group: UnitGroup) -> tuple[Entries, ...]:
        """Return the entries of a group; they are looked up once for each shape."""
        known = self._entries.get(group.name)
        if known is None or known[0] is not group.members:
            known = self._entries[group.name] = (group.members, entries_of(model, group))
        return known[1]

    def renew(self, at: Renewing, plan: Plan) -> Edit:
        """Replace units in place: all of it happens, or nothing.

        The first renewal of a group is verified: the outputs on the example inputs must be those
        of the network with the units masked.

        Raises:
            PlanError: A group cannot be renewed.
            SurgeryError: The verification failed, or a follower cannot follow.
        """
        units = {name: at.groups[name].indices(ids) for name, ids in plan.replace.items() if ids}
        self._check(at, units)
        entries = {name: self.entries(at.model, at.groups[name]) for name in units}
        axes = touched(entries, units)
        new = {
            name: renewed_group(at.groups[name], where, at.task) for name, where in units.items()
        }
        with undoing(at.generator) as undo:
            expected = self._expected(at, units)
            undo.callback(put_back, kept_entries(axes, entries))
            draw(entries, units, at.generator, paired=at.paired)
            if expected is not None:
                check_outputs(expected, at.outputs, plan)
            undo.callback(at.settle({**at.groups, **new}))
            edit = _edit(at, plan, new)
            self._follow(at, edit, axes, entries)
        self._verified |= set(units)
        self.untold.append(replace(edit, changes={}))
        return edit

    def _check(self, at: Renewing, units: Mapping[str, Sequence[int]]) -> None:
        problems = [
            f"{name!r}: {problem}"
            for name in units
            if name not in self._verified
            and (problem := renewal_obstacle(at.model, at.groups[name], paired=at.paired))
        ]
        if problems:
            raise PlanError("units cannot be renewed in place: " + "; ".join(problems))

    def _expected(self, at: Renewing, units: Mapping[str, Sequence[int]]) -> list[Tensor] | None:
        if self._verified.issuperset(units):
            return None
        removed = {n: {at.groups[n].unit_ids[i] for i in where} for n, where in units.items()}
        with masked(at.model, at.groups.values(), removed):
            return at.outputs()

    def _follow(
        self,
        at: Renewing,
        edit: Edit,
        axes: Mapping[tuple[str, int], Tensor],
        entries: Mapping[str, Sequence[Entries]],
    ) -> None:
        optimizers = [f for f in at.followers if isinstance(f, Optimizer)]
        warmups = [f for f in at.followers if isinstance(f, Warmup)]
        others = [f for f in at.followers if not isinstance(f, Optimizer | Warmup)]
        if others:
            edit = replace(edit, changes=changes_of(axes, entries))
            follow(others, edit, at.model)
        parameters = {
            e.name: e.tensor
            for each in entries.values()
            for e in each
            if isinstance(e.tensor, nn.Parameter)
        }
        renew_state(optimizers, parameters, axes)
        mark_young(warmups, parameters, axes)

    def told(self) -> Edit | None:
        """Return what listeners have not heard of as one edit, and forget it; None for nothing."""
        edits, self.untold = self.untold, []
        return together(edits) if edits else None

    def must_tell(self, plan: Plan) -> bool:
        """Return True if listeners must hear of earlier renewals before a plan is carried out.

        A unit that was born in an untold renewal cannot die in the same event, and the task of an
        event is one.
        """
        if sum(len(ids) for edit in self.untold for ids in edit.born.values()) >= MOST_UNTOLD:
            return True
        born: dict[str, set[int]] = {}
        for edit in self.untold:
            for name, ids in edit.born.items():
                born.setdefault(name, set()).update(ids)
        return any(born.get(name, set()) & set(ids) for name, ids in plan.removed.items())


def _edit(at: Renewing, plan: Plan, new: Mapping[str, UnitGroup]) -> Edit:
    """Return the record of a renewal, without changes of axes."""
    units = {name: at.groups[name].indices(ids) for name, ids in plan.replace.items() if ids}
    born = {name: tuple(new[name].unit_ids[i] for i in where) for name, where in units.items()}
    died = {name: tuple(plan.replace[name]) for name in units}
    mates = {name: families(ids) for name, ids in born.items()} if at.paired else {}
    return Edit(plan, at.task, {}, born, died, {}, {}, mates={n: f for n, f in mates.items() if f})


def together(edits: Iterable[Edit]) -> Edit:
    """Return several renewals of one task as one edit, with the reason and cause of the last."""
    edits = list(edits)
    born: dict[str, tuple[int, ...]] = {}
    died: dict[str, tuple[int, ...]] = {}
    for edit in edits:
        for name in edit.born:
            born[name] = (*born.get(name, ()), *edit.born[name])
            died[name] = (*died.get(name, ()), *edit.died[name])
    last = edits[-1]
    cause = {**last.cause, "renewals": len(edits)} if last.cause else {}
    plan = Plan(replace=died, reason=last.reason, cause=cause)
    return replace(last, plan=plan, born=born, died=died)
