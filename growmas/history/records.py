"""Records that a topology history returns: frozen dataclasses of plain values.

Tasks are given by name, units by (group, id). An id is never used again within its group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Stretch = tuple[str, str]
"""Names of the first and the last task at whose end a unit was frozen."""


@dataclass(frozen=True)
class TaskRecord:
    """A task.

    Attributes:
        index: Position in the sequence, from 0.
        name: Name; "task N" while it has none.
        started: UTC time, ISO 8601, at which the tracker first knew of the task.
        finished: UTC time of the latest snapshot; None before the first.
    """

    index: int
    name: str
    started: str
    finished: str | None


@dataclass(frozen=True)
class GroupRecord:
    """A group of units.

    Attributes:
        name: Name.
        kind: Kind of its units, such as "neurons", as the structure names it.
        living: Number of units alive now.
        ever: Number of units that ever lived, the first ones included.
    """

    name: str
    kind: str
    living: int
    ever: int


@dataclass(frozen=True)
class Turnover:
    """Births and deaths in a group during one task; `before + born - died == width`.

    Attributes:
        before: Units at the start of the task (in task 0: units that the network began with).
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
    """An event: an edit of the structure, a snapshot, or anything that was noted.

    Attributes:
        event: Number of the event; numbers rise in time.
        task: Task during which it happened.
        reason: Reason given with the edit or note, for people; may be empty.
        time: UTC, ISO 8601.
        born: Ids of the units added, per group; groups without any are left out.
        died: Ids of the units removed, per group; groups without any are left out.
        kind: "edit"; "external", a change that growmas did not make, found at a snapshot;
            "begin" of a task; "resume" of an earlier one; "snapshot"; or the kind of a note, such
            as "plateau" or "shift".
        cause: The reason for programs, as JSON values: for an edit that a policy proposed, the
            policy's name, the statistic, its value and the threshold.
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
    """Birth and death of a unit.

    Attributes:
        group: Group that the unit belongs to.
        unit: Id of the unit.
        parent: Id of the unit that it was split from; None if it was not split from one.
        birth_task: Task in which it was born.
        birth_reason: Reason of the edit that added it; None if the network began with it.
        death_task: Task in which it was pruned; None while it lives.
        death_reason: Reason of the edit that removed it; None while it lives.
        replaced: Id of the unit whose place it took; None if it did not replace one.
        frozen: Stretches of tasks at whose ends its weights were frozen, in order.
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
    """A lifeline with all that is known about the unit.

    Attributes:
        children: Ids of the units split from it.
        replaced_by: Id of the unit that took its place; None if it was not replaced.
        importance: Importance at each snapshot that measured it, by task.
        consumers: Share of its importance that is due to each layer that reads it, by task and
            layer; layers without a share are left out.
    """

    children: tuple[int, ...]
    replaced_by: int | None
    importance: dict[str, float]
    consumers: dict[str, dict[str, float]]


@dataclass(frozen=True)
class GroupImportance:
    """The importance of a group's units at a snapshot.

    Attributes:
        units: Number of units measured.
        total: Sum of their importances.
        mean: Mean importance.
        least: Smallest importance.
        most: Largest importance.
        zeros: Number of units whose importance is exactly 0: no task needs them.
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
        task: Task of their birth.
        initial: True for the units that the network began with.
        size: Number of units born.
        alive: Task, from that of their birth on -> number of them alive at its end.
    """

    task: str
    initial: bool
    size: int
    alive: dict[str, int]


@dataclass(frozen=True)
class SizeRecord:
    """Size of the network at the end of a task.

    Attributes:
        units: Number of living units, of all groups.
        parameters: Number of parameters of the whole model.
        flops: FLOPs of one sample, two for a multiplication and addition; None if they were not
            counted. `TopologyHistory.flops_of` names the unit in files of earlier versions.
    """

    units: int
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class GroupDiff:
    """Difference of a group between two tasks.

    Attributes:
        kept: Ids of the units alive after both tasks.
        born: Ids of the units alive only after the second task.
        pruned: Ids of the units alive only after the first task.
        moved: Unit id -> importance at the first and at the second snapshot, for kept units
            measured at both.
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
    """Difference of the network between two tasks.

    Attributes:
        before: Name of the first task.
        after: Name of the second task.
        groups: Units kept, born and pruned, per group.
        parameters_before: Parameter count after the first task; None if it was not written.
        parameters_after: Parameter count after the second task; None if it was not written.
        metrics_before: Metrics at the first task's snapshot; empty without a snapshot.
        metrics_after: Metrics at the second task's snapshot; empty without a snapshot.
        flops_before: FLOPs after the first task; None if they were not counted.
        flops_after: FLOPs after the second task; None if they were not counted.
        importance_before: Importance at the first task's snapshot, per group measured.
        importance_after: Importance at the second task's snapshot, per group measured.
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
        task: Name of the task.
        widths: Number of units per group.
        units: Ids of the living units per group.
        layers: Layers in the structure's order.
        operations: Operations in the order of the data flow.
        edges: Data flow between layers and operations.
        parameters: Parameter count; None if it was not written.
        flops: FLOPs; None if they were not counted.
        metrics: Metrics of the task's snapshot; empty without a snapshot.
        groups: Counts and importance per group.
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
    groups: "dict[str, GroupState]" = field(default_factory=dict)


@dataclass(frozen=True)
class RunDiff:
    """Difference between the networks of two runs, each after a task.

    Units of different runs are different units, so groups are compared by their counts.

    Attributes:
        before: Network of the first run.
        after: Network of the second run.
        groups: Counts in both runs, per group of either; None where a run lacks the group.
    """

    before: NetworkState
    after: NetworkState
    groups: "dict[str, tuple[GroupState | None, GroupState | None]]"


@dataclass(frozen=True)
class GroupState:
    """Counts and importance of a group after a task.

    Attributes:
        width: Units alive.
        ever: Units that have lived so far.
        born: Units added so far, without those that the run began with.
        pruned: Units removed so far.
        importance: Importance at the task's snapshot; None if it was not measured.
    """

    width: int
    ever: int
    born: int
    pruned: int
    importance: GroupImportance | None


@dataclass(frozen=True)
class LayerRecord:
    """A layer at the end of a task.

    Attributes:
        name: Qualified module name.
        kind: Class name.
        group: Group that its outputs belong to; None if they are not units.
        in_width: Number of input features or channels; None where that has no meaning.
        out_width: Number of output features or channels; None where that has no meaning.
        parameters: Number of its own parameters.
        flops: FLOPs of one sample; None if they were not counted.
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
    """An operation without parameters in the data flow, at the end of a task.

    Attributes:
        name: Name, unique among layers and operations.
        kind: Kind of operation, such as "Add", "Cat", "Relu", "MaxPool2D".
        width: Number of output features or channels; None where it is not known.
    """

    name: str
    kind: str
    width: int | None
