"""Groups of units: ids, births, and the positions that the units hold in the layers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from growmas.errors import PlanError, SurgeryError
from growmas.structure.layers.axes import LayerAxes, Side
from growmas.suggestion import suggestion

Residual = Literal["", "mean", "zero"]
"""Start of a fresh channel of a residual path: the mean of the others, or zero."""


@dataclass(frozen=True, eq=False)
class Member:
    """One side of one layer that a group's units occupy.

    Attributes:
        layer: Qualified name of the layer.
        side: "out", the channels it gives, or "in", the channels it reads.
        positions: [U, m] int64, the m positions of each unit on that side; for a flattened
            feature map m is the number of pixels.
        runs: Lengths of the runs of consecutive positions that make up a unit's m positions; a
            copy of each run, behind it, makes a fresh unit.
        axes: The layer's axes, kept from the analysis: a layer that is pruned to one channel may
            look like a layer of another kind (a depthwise convolution like a plain one).
        path: Number of the residual path in a group of several, which change together because the
            code gives the width of one to another; −1 for what lies beside all paths.
        reads: Which of the m positions are read, though they are rows of a layer: a channel of
            the keys in attention over all channels reads the same channel of the queries. Such
            entries start at zero, and a unit without them has no effect, as columns.
    """

    layer: str
    side: Side
    positions: Tensor
    runs: tuple[int, ...]
    axes: LayerAxes
    path: int = 0
    reads: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units that are added and removed together in all layers that give and read them.

    Attributes:
        name: Qualified name of the first layer that gives the units.
        kind: Name of its units, in the plural: "neurons", "channels", "attention heads" and so on.
        unit_ids: [U] ids, given at birth and never reused, in the order of positions.
        births: [U] index of the task in which each unit was born.
        members: The layer sides the units occupy.
        next_id: The id that the next unit will get.
        no_shrink: Reason why units cannot be removed; empty if they can.
        no_grow: Reason why units cannot be added without changing the function; empty if they can.
        residual: For units that pass norms over all channels, the value of fresh ones before the
            norms: the "mean" of the others (LayerNorm) or "zero" (RMSNorm); empty for other
            units. Such units cannot be left out again, see `growmas.structure.surgery.widening`.
        scales: Layer that adds to a residual path -> qualified name of the parameter that what it
            gives is multiplied by (layer scale).
        approximate: True if units can be removed by a `Plan(approximate=True)` in spite of
            `no_shrink`: they pass norms over all channels, so the function of the others changes.
        refused: Why the last plan for the group was refused by the verification, or nothing.
        span: Number of channels of a residual path to a unit.
    """

    name: str
    kind: str
    unit_ids: tuple[int, ...]
    births: tuple[int, ...]
    members: tuple[Member, ...]
    next_id: int
    no_shrink: str = ""
    no_grow: str = ""
    residual: Residual = ""
    scales: Mapping[str, str] = field(default_factory=dict)
    approximate: bool = False
    refused: str = ""
    span: int = 1

    def __repr__(self) -> str:
        return (
            f"UnitGroup({self.name!r}, {self.width} {self.kind} of {', '.join(self.layers)}; "
            f"{self.abilities}{self.refused and f'; refused: {self.refused}'})"
        )

    @property
    def width(self) -> int:
        """Number of living units, U."""
        return len(self.unit_ids)

    @property
    def can_shrink(self) -> bool:
        """True if units can be removed."""
        return not self.no_shrink

    @property
    def can_grow(self) -> bool:
        """True if units can be added without changing the function."""
        return not self.no_grow

    @property
    def abilities(self) -> str:
        """Ways in which the group can change, in words."""
        can = ["shrinks"] * self.can_shrink + ["grows"] * self.can_grow
        can += ["shrinks approximately"] * (self.approximate and not self.can_shrink)
        return " and ".join(can) or "cannot change"

    @cached_property
    def sides(self) -> frozenset[tuple[str, Side]]:
        """The layer sides that the units occupy."""
        return frozenset((member.layer, member.side) for member in self.members)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose tensors change with the group, each once."""
        return tuple(dict.fromkeys(member.layer for member in self.members))

    def indices(self, ids: Sequence[int]) -> list[int]:
        """Return the indices in `unit_ids` of the units with these ids."""
        where = {unit: index for index, unit in enumerate(self.unit_ids)}
        return [where[unit] for unit in ids]

    def mask(self, ids: Collection[int]) -> Tensor:
        """Return [U] bool, true for the units with these ids."""
        if not ids:
            return torch.zeros(self.width, dtype=torch.bool)
        return torch.tensor([unit in ids for unit in self.unit_ids])


def with_shared_positions(group: UnitGroup) -> UnitGroup:
    """Return the group with equal positions of its members as one object, so that edits are fast.

    Positions are never written to.
    """
    known: dict[tuple[Any, ...], Tensor] = {}
    members = []
    for member in group.members:
        key = tuple(member.positions.shape), member.positions.numpy().tobytes()
        members.append(replace(member, positions=known.setdefault(key, member.positions)))
    return replace(group, members=tuple(members))


def task_index(tasks: Sequence[str], task: int | str) -> int:
    """Return the index of a task that is given by index or name.

    Before the first task is begun there is one already, with the index 0 and no name.

    Raises:
        PlanError: There is no such task.
    """
    if isinstance(task, str) and task in tasks:
        return tasks.index(task)
    last = max(0, len(tasks) - 1)
    if type(task) is int and 0 <= task <= last:
        return task
    if not tasks:
        hint = "no task has been begun: call structure.begin_task(name) first"
    elif isinstance(task, str):
        hint = suggestion(task, tasks, "task")
    elif last:
        hint = f"the tasks begun so far are 0 to {last}"
    else:
        hint = f"the only task begun so far is 0, {tasks[0]!r}"
    raise PlanError(f"no task {task!r}; {hint}")


def younger_units(groups: Mapping[str, UnitGroup], task: int) -> dict[str, set[int]]:
    """Return the units born after a task, which its view leaves out: group name -> ids.

    Raises:
        PlanError: Some of them pass norms over all channels and cannot be left out.
    """
    younger = {
        group.name: {u for u, b in zip(group.unit_ids, group.births, strict=True) if b > task}
        for group in groups.values()
    }
    held = [name for name, units in younger.items() if units and groups[name].residual]
    if held:
        raise PlanError(
            f"there is no view of task {task} any more: since then {', '.join(map(repr, held))} "
            "grew, whose units pass norms over all channels; they are part of the statistics "
            "and cannot be left out. For views of earlier tasks, grow groups that can shrink"
        )
    return younger


def group_state(group: UnitGroup) -> dict[str, Any]:
    """Return the part of a group that edits change, as tensors and JSON values."""
    return {
        "kind": group.kind,
        "unit_ids": list(group.unit_ids),
        "births": list(group.births),
        "next_id": group.next_id,
        "positions": {f"{m.layer}.{m.side}": m.positions for m in group.members},
    }


def restored_groups(
    groups: Mapping[str, UnitGroup], states: Mapping[str, Mapping[str, Any]]
) -> dict[str, UnitGroup]:
    """Return the groups of a fresh model with the units that `states` recorded.

    Args:
        groups: The groups of the fresh model.
        states: Group name -> what `group_state` gave.

    Raises:
        SurgeryError: Names or layers are not the same.
    """
    layers = {name: {f"{m.layer}.{m.side}" for m in g.members} for name, g in groups.items()}
    recorded = {name: set(state["positions"]) for name, state in states.items()}
    if layers != recorded:
        names = {*layers, *recorded}
        differing = sorted(name for name in names if layers.get(name) != recorded.get(name))
        raise SurgeryError(
            f"the state is of another architecture: groups {', '.join(map(repr, differing))} differ"
        )
    found = {
        name: replace(
            groups[name],
            unit_ids=tuple(state["unit_ids"]),
            births=tuple(state["births"]),
            next_id=state["next_id"],
            members=tuple(
                replace(m, positions=state["positions"][f"{m.layer}.{m.side}"])
                for m in groups[name].members
            ),
        )
        for name, state in states.items()
    }
    return {name: with_shared_positions(group) for name, group in found.items()}
