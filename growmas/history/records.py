"""What a topology history answers with: frozen records of plain values.

Tasks are given by name, units by (group, id). Ids are never used again within a group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Stretch = tuple[str, str]
"""The first and the last task at whose end something was so."""


@dataclass(frozen=True)
class TaskRecord:
    """A task.

    Attributes:
        index: Position in the sequence, from 0.
        name: Its name; "task N" while it has none.
        started: UTC time, ISO 8601, at which the tracker first heard of it.
        finished: UTC time of its latest snapshot; None before the first.
    """

    index: int
    name: str
    started: str
    finished: str | None


@dataclass(frozen=True)
class GroupRecord:
    """A group of units.

    Attributes:
        name: Its name.
        kind: What its units are, as the structure calls it.
        living: How many units live now.
        ever: How many units ever lived, the first ones included.
    """

    name: str
    kind: str
    living: int
    ever: int


@dataclass(frozen=True)
class Turnover:
    """A group during one task; `before + born - died == width`.

    Attributes:
        before: Units at the start of the task (in task 0: that the network began with).
        born: Units that edits added during the task.
        died: Units that edits removed during the task.
        width: Units at its end, or now if it is still running.
    """

    before: int
    born: int
    died: int
    width: int

    def __add__(self, other: "Turnover") -> "Turnover":
        return Turnover(
            self.before + other.before,
            self.born + other.born,
            self.died + other.died,
            self.width + other.width,
        )


@dataclass(frozen=True)
class EventRecord:
    """Something that happened.

    Attributes:
        event: Its number; numbers rise in time.
        task: The task during which it happened.
        reason: Why, in the words of whoever edited or noted it; may be empty.
        time: UTC, ISO 8601.
        born: Ids of the units added, per group; groups without any are left out.
        died: Ids of the units removed, likewise.
        kind: "edit"; "external", a change that growmas did not make, found at a snapshot;
            "begin", of a task; "snapshot"; or what was noted, such as "plateau" or "shift".
        cause: The same for programs: for an edit that a policy proposed its name, the statistic,
            its value and the threshold; for others what belongs to the kind. JSON values.
    """

    event: int
    task: str
    reason: str
    time: str
    born: dict[str, tuple[int, ...]]
    died: dict[str, tuple[int, ...]]
    kind: str = "edit"
    cause: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lifeline:
    """From when to when a unit lived.

    Attributes:
        group: The group it belongs to.
        unit: Its id.
        parent: The id of the unit it was split from; None if it was not.
        birth_task: The task in which it was born.
        birth_reason: The reason of the edit that added it; None if the network began with it.
        death_task: The task in which it died; None while it lives.
        death_reason: The reason of the edit that removed it; None while it lives.
        replaced: The id of the unit whose place it took; None if it took none.
        frozen: The stretches of tasks at whose ends its weights were held fast, in order.
    """

    group: str
    unit: int
    parent: int | None
    birth_task: str
    birth_reason: str | None
    death_task: str | None
    death_reason: str | None
    replaced: int | None = None
    frozen: tuple[Stretch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnitRecord(Lifeline):
    """A unit's whole life.

    Attributes:
        children: Ids of the units split from it.
        replaced_by: The id of the unit that took its place; None if none did.
        importance: Its importance at each snapshot that measured it, by task.
        consumers: Which layers read it, with the share of its importance that is due to each, by
            task; layers with none are left out.
    """

    children: tuple[int, ...]
    replaced_by: int | None
    importance: dict[str, float]
    consumers: dict[str, dict[str, float]]


@dataclass(frozen=True)
class GroupImportance:
    """The importance of a group's units at a snapshot.

    Attributes:
        units: How many were measured.
        total: Their sum.
        mean: Their mean.
        least: The smallest.
        most: The largest.
        zeros: How many are exactly 0: units that no task needs.
    """

    units: int
    total: float
    mean: float
    least: float
    most: float
    zeros: int


@dataclass(frozen=True)
class Cohort:
    """The units born in one task, and how many of them live after each task.

    Attributes:
        task: The task of their birth.
        initial: Whether they are the units that the network began with.
        size: How many were born.
        alive: How many live at the end of each task from that of their birth on.
    """

    task: str
    initial: bool
    size: int
    alive: dict[str, int]


@dataclass(frozen=True)
class SizeRecord:
    """The network at the end of a task.

    Attributes:
        units: Living units of all groups.
        parameters: Parameters of the whole model.
        flops: Of one forward pass of the example inputs, see `Explanation`; None if they were not
            counted.
    """

    units: int
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class GroupDiff:
    """A group at two tasks; `before` and `after` are their widths.

    Attributes:
        kept: Ids of the units alive after both tasks.
        born: Ids of those alive only after the second.
        pruned: Ids of those alive only after the first.
        moved: Importance of the kept units at the two snapshots, by id; those measured at both.
    """

    kept: tuple[int, ...]
    born: tuple[int, ...]
    pruned: tuple[int, ...]
    moved: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def before(self) -> int:
        """Width after the first task."""
        return len(self.kept) + len(self.pruned)

    @property
    def after(self) -> int:
        """Width after the second task."""
        return len(self.kept) + len(self.born)


@dataclass(frozen=True)
class TopologyDiff:
    """The network after one task against the network after another.

    Attributes:
        before: Name of the first task.
        after: Name of the second task.
        groups: Units kept, born and pruned, per group.
        parameters_before: Parameter count after the first task; None if it was not written.
        parameters_after: Parameter count after the second task, likewise.
        metrics_before: Metrics at the first task's snapshot; empty without one.
        metrics_after: Metrics at the second task's snapshot, likewise.
        flops_before: FLOPs after the first task; None if they were not counted.
        flops_after: FLOPs after the second task, likewise.
        importance_before: Importance at the first task's snapshot, per group measured.
        importance_after: Importance at the second task's snapshot, likewise.
    """

    before: str
    after: str
    groups: dict[str, GroupDiff]
    parameters_before: int | None
    parameters_after: int | None
    metrics_before: dict[str, float]
    metrics_after: dict[str, float]
    flops_before: int | None = None
    flops_after: int | None = None
    importance_before: dict[str, GroupImportance] = field(default_factory=dict)
    importance_after: dict[str, GroupImportance] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkState:
    """The network at the end of a task.

    Attributes:
        task: The task's name.
        widths: Units per group.
        units: Ids of the living units per group.
        layers: In the structure's order.
        operations: In the order of the data flow.
        edges: Data flow between layers and operations.
        parameters: Parameter count; None if it was not written.
        flops: FLOPs; None if they were not counted.
        metrics: At the task's snapshot.
    """

    task: str
    widths: dict[str, int]
    units: dict[str, tuple[int, ...]]
    layers: "tuple[LayerRecord, ...]"
    operations: "tuple[OperationRecord, ...]"
    edges: tuple[tuple[str, str], ...]
    parameters: int | None
    flops: int | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunDiff:
    """One run after a task against another run after a task.

    Units of different runs are different units, so groups are compared by their numbers.

    Attributes:
        before: The first run at that task.
        after: The second run likewise.
        groups: Per group of either run, its numbers in both; None where a run lacks the group.
    """

    before: NetworkState
    after: NetworkState
    groups: "dict[str, tuple[GroupState | None, GroupState | None]]"


@dataclass(frozen=True)
class GroupState:
    """A group of one run after a task.

    Attributes:
        width: Units alive.
        ever: Units that have lived so far.
        born: Units added by then, those that the run began with left out.
        pruned: Units removed by then.
        importance: At the task's snapshot; None if it was not measured.
    """

    width: int
    ever: int
    born: int
    pruned: int
    importance: GroupImportance | None


@dataclass(frozen=True)
class LayerRecord:
    """A layer as a task left it.

    Attributes:
        name: Qualified module name.
        kind: Class name.
        group: The group its outputs belong to; None if they are not units.
        in_width: Input features or channels; None where that has no meaning.
        out_width: Output features or channels; None likewise.
        parameters: Number of parameters of its own.
        flops: Of one forward pass of the example inputs; None if they were not counted.
    """

    name: str
    kind: str
    group: str | None
    in_width: int | None
    out_width: int | None
    parameters: int
    flops: int | None = None


@dataclass(frozen=True)
class OperationRecord:
    """An operation without parameters that data flow through, as a task left it.

    Attributes:
        name: Unique among layers and operations.
        kind: What it does, such as "Add", "Cat", "Relu", "MaxPool2D".
        width: Features or channels that it gives; None where that is not known.
    """

    name: str
    kind: str
    width: int | None
