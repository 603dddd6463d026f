"""The reader of a topology history: the network after each task, and why it changed."""

import json
import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from growmas.closeable import Closeable
from growmas.errors import HistoryError
from growmas.history import differences, lives, values
from growmas.history.architecture import ArchitectureReading
from growmas.history.records import (
    Cohort,
    EventRecord,
    GroupImportance,
    GroupRecord,
    Lifeline,
    NetworkState,
    SizeRecord,
    TaskRecord,
    TopologyDiff,
    Turnover,
    UnitRecord,
)
from growmas.history.scalars import ScalarReading
from growmas.history.schema import open_to_read
from growmas.history.suggestion import suggest
from growmas.history.tables import FLOPS_OF
from growmas.paths import as_path

if TYPE_CHECKING:
    import networkx as nx

CHANGES = ("edit", "external")
"""Kinds of events in which units were born or died."""

_ALIVE = "birth_task <= ?1 AND IFNULL(death_task > ?1, 1)"  # at the end of task ?1


class TopologyHistory(ArchitectureReading, ScalarReading, Closeable):
    """The read side of a topology history; needs no torch and never writes.

    A running tracker may still write the file: every method sees the state after a whole
    transaction, and the next call may see a later one. Use `frozen` to give several calls the
    same state. A task can be given by its name or by its index, also as text.

    Use it as a context manager, or call `close`.

    Args:
        path: The file that a `TopologyTracker` wrote.

    Raises:
        HistoryError: If `path` is not a topology history, or has tables of another version. All
            methods raise it for a task, group or unit that does not exist, with a similar name
            where there is one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path, HistoryError, "a topology history")
        self._connection = open_to_read(self.path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Give all calls inside the same state of a file that is being written."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")  # nothing was written

    @property
    def version(self) -> int:
        """A number that changes whenever a tracker has written to the file."""
        return int(self._rows("PRAGMA data_version")[0][0])

    @property
    def flops_of(self) -> str:
        """Unit of FLOPs: a "sample"; the "example inputs" in files of earlier versions."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", FLOPS_OF)
        return str(rows[0][0]) if rows else "example inputs"

    # Tasks and the network as a whole

    def meta(self) -> dict[str, str]:
        """Return the facts about the file: growmas's version, and those the tracker was given."""
        return dict(self._rows("SELECT key, value FROM meta"))

    def tasks(self) -> tuple[TaskRecord, ...]:
        """Return the tasks in order; the last may still be running (`finished` is None)."""
        rows = self._rows("SELECT task, name, started, finished FROM tasks ORDER BY task")
        return tuple(TaskRecord(*row) for row in rows)

    def sizes(self) -> dict[str, SizeRecord]:
        """Return units, parameters and FLOPs at the end of each task, by task."""
        rows = self._rows(
            "SELECT name, units, parameters, flops FROM sizes JOIN tasks USING (task) ORDER BY task"
        )
        return {name: SizeRecord(*numbers) for name, *numbers in rows}

    def parameters(self) -> dict[str, int]:
        """Return the network's parameter count at the end of each task, by task."""
        return {name: size.parameters for name, size in self.sizes().items()}

    def metrics(self, task: str | int) -> dict[str, float]:
        """Return the metrics of a task's snapshot by name; empty without a snapshot."""
        index = self._task(task).index
        return dict(self._rows("SELECT name, value FROM metrics WHERE task = ?", index))

    def all_metrics(self) -> dict[str, dict[str, float]]:
        """Return the metrics of every snapshot by task and name."""
        result: dict[str, dict[str, float]] = {task.name: {} for task in self.tasks()}
        for task, name, value in self._rows(
            "SELECT tasks.name, metrics.name, value FROM metrics JOIN tasks USING (task) "
            "ORDER BY task, metrics.name"
        ):
            result[task][name] = value
        return result

    def accuracy(self) -> tuple[tuple[float | None, ...], ...]:
        """Return `R[i][j]`, the accuracy on task j after task i, [T, T]; None: not measured.

        R is read from the metrics called "accuracy/NAME", where NAME is the name of task j.
        """
        with self.frozen():
            names = [task.name for task in self.tasks()]
            rows = self._rows("SELECT task, name, value FROM metrics WHERE name LIKE 'accuracy/%'")
        found = {(task, name): value for task, name, value in rows}
        return tuple(
            tuple(found.get((task, f"accuracy/{name}")) for name in names)
            for task in range(len(names))
        )

    def at(self, task: str | int | None = None) -> NetworkState:
        """Return the network at the end of a task (default: the last): units, layers, size."""
        with self.frozen():
            record = self._task(task)
            units = self.units(record.index)
            size = self.sizes().get(record.name)
            summaries = values.summaries(self._rows, record.index)
            importance = {group: by_task[record.name] for group, by_task in summaries.items()}
            return NetworkState(
                task=record.name,
                widths={group: len(ids) for group, ids in units.items()},
                units=units,
                layers=self.layers(record.index),
                operations=self.operations(record.index),
                edges=self.edges(record.index),
                parameters=size.parameters if size else None,
                flops=size.flops if size else None,
                metrics=self.metrics(record.index),
                groups=lives.group_states(self._rows, record.index, importance),
            )

    def diff(self, a: str | int, b: str | int) -> TopologyDiff:
        """Compare the network at the end of task `a` with the network at the end of task `b`.

        Units that were born and died in between are in neither network, hence not in the diff.
        `growmas.history.differences.diff_runs` compares two runs.
        """
        with self.frozen():
            before, after = self.at(a), self.at(b)
            importance = self.importance(a), self.importance(b)
        return differences.diff_tasks(before, after, importance=importance)

    # Units

    def groups(self) -> tuple[GroupRecord, ...]:
        """Return the groups of units, in the structure's order."""
        rows = self._rows(
            "SELECT name, kind, COUNT(unit) - COUNT(death_task), COUNT(unit) FROM groups "
            "LEFT JOIN units ON group_name = name GROUP BY position ORDER BY position"
        )
        return tuple(GroupRecord(*row) for row in rows)

    def turnover(self) -> dict[str, dict[str, Turnover]]:
        """Return the `Turnover` (units before, born, died and after) by group and task."""
        with self.frozen():
            return lives.turnover(self._rows, self.tasks())

    def widths(self) -> dict[str, dict[str, int]]:
        """Return the number of units at the end of each task by group and task."""
        return {
            group: {task: turnover.width for task, turnover in by_task.items()}
            for group, by_task in self.turnover().items()
        }

    def survival(self, group: str | None = None) -> tuple[Cohort, ...]:
        """Return how many units of each birth task live after each task, in one group or in all.

        The first cohort holds the units that the network began with.
        """
        with self.frozen():
            if group is not None:
                self._check_group(group)
            return lives.cohorts(self._rows, self.tasks(), group)

    def born(self, task: str | int) -> dict[str, tuple[int, ...]]:
        """Return ids of the units that edits added during a task, per group, also of dead units.

        The units that the network began with are not among them.
        """
        added = "birth_task = ? AND (birth_event IS NOT NULL OR birth_task > 0)"
        return lives.ids_where(self._rows, added, self._task(task).index)

    def died(self, task: str | int) -> dict[str, tuple[int, ...]]:
        """Return ids of the units that edits removed during a task, per group."""
        return lives.ids_where(self._rows, "death_task = ?", self._task(task).index)

    def units(self, task: str | int | None = None) -> dict[str, tuple[int, ...]]:
        """Return ids of the units alive at the end of a task (default: now), per group."""
        if task is None:
            return lives.ids_where(self._rows, "death_task IS NULL")
        return lives.ids_where(self._rows, _ALIVE, self._task(task).index)

    def frozen_units(self, task: str | int | None = None) -> dict[str, tuple[int, ...]]:
        """Return ids of the units frozen at the end of a task (default: the last), per group."""
        frozen = (
            "SELECT 1 FROM frozen WHERE frozen.group_name = units.group_name "
            "AND frozen.unit = units.unit AND since_task <= ?1 AND IFNULL(until_task > ?1, 1)"
        )
        with self.frozen():
            index = self._task(task).index
            return lives.ids_where(self._rows, f"{_ALIVE} AND EXISTS ({frozen})", index)

    def unit(self, group: str, unit: int) -> UnitRecord:
        """Return the whole life of one unit."""
        with self.frozen():
            found = lives.lifeline(self._rows, self.tasks(), group, unit)
            if found is None:
                raise self._no_unit(group, unit)
            children = self._rows(
                "SELECT unit FROM units WHERE group_name = ? AND parent = ?", group, unit
            )
            heirs = self._rows(
                "SELECT unit FROM units WHERE group_name = ? AND replaced = ?", group, unit
            )
            return UnitRecord(
                **vars(found),
                children=tuple(child for (child,) in children),
                replaced_by=heirs[0][0] if heirs else None,
                importance=values.importance_of_unit(self._rows, group, unit),
                consumers=values.consumers_of(self._rows, group, unit),
            )

    def lifelines(self, group: str | None = None) -> tuple[Lifeline, ...]:
        """Return the birth and death of each unit, of one group or (default) of all."""
        return tuple(self.each_lifeline(group))

    def each_lifeline(self, group: str | None = None) -> Iterator[Lifeline]:
        """Yield what `lifelines` returns, with a few units in memory at once."""
        with self.frozen():
            if group is not None:
                self._check_group(group)
            yield from lives.each_lifeline(self._rows, self.tasks(), group)

    # Importance

    def importance(self, task: str | int) -> dict[str, dict[int, float]]:
        """Return the importance of the units at a task's snapshot by group and unit.

        Empty if the snapshot was taken without omega. Values have single precision.
        """
        with self.frozen():
            return values.importance_at(self._rows, self._task(task).index)

    def each_importance(self) -> "Iterator[values.Measured]":
        """Yield the importance of each group at each snapshot, with one of them in memory."""
        with self.frozen():
            yield from values.each_importance(self._rows, self.tasks())

    def group_importance(self, group: str) -> dict[str, dict[int, float]]:
        """Return the importance of one group's units at each snapshot, by task and unit."""
        with self.frozen():
            self._check_group(group)
            return values.importance_of(self._rows, group)

    def importance_summary(self) -> dict[str, dict[str, GroupImportance]]:
        """Return `GroupImportance`, the importance summed up, by group and task; reads no unit."""
        return values.summaries(self._rows)

    def consumers(self, task: str | int) -> dict[str, dict[str, float]]:
        """Return each layer's share of the importance of the groups it reads, at a snapshot.

        Layers without a share and groups without importance are left out. `unit` has the shares
        of a single unit.
        """
        with self.frozen():
            return values.consumers_at(self._rows, self._task(task).index)

    # Events

    def events(self) -> tuple[EventRecord, ...]:
        """Return all changes of the structure, in order; `log` has all other events too."""
        return self.log(CHANGES)

    def log(self, kinds: Collection[str] | None = None) -> tuple[EventRecord, ...]:
        """Return all events, or those of the given kinds, in order."""
        with self.frozen():
            moves = kinds is None or not {*CHANGES}.isdisjoint(kinds)
            born = lives.ids_by_event(self._rows, "birth_event") if moves else {}
            died = lives.ids_by_event(self._rows, "death_event") if moves else {}
            rows = self._rows(
                "SELECT event, name, reason, time, kind, cause FROM events JOIN tasks USING (task) "
                "ORDER BY event"
            )
        return tuple(
            EventRecord(
                *(event, task, reason, time, born.get(event, {}), died.get(event, {})),
                kind=kind,
                cause=json.loads(cause),
            )
            for event, task, reason, time, kind, cause in rows
            if kinds is None or kind in kinds
        )

    # Graphs of units

    def lineage(self, group: str | None = None) -> "nx.DiGraph[tuple[str, int]]":
        """Return a graph of all units, with edges to units split from them or put in their place.

        `growmas.history.graphs.lineage_graph` documents the attributes of nodes and edges.

        Args:
            group: Name of the group; None takes all.
        """
        from growmas.history.graphs import lineage_graph

        return lineage_graph(self.lifelines(group))

    def _rows(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise HistoryError(f"{self.path} could not be read: {error}") from error

    def _task(self, task: str | int | None) -> TaskRecord:
        tasks = self.tasks()
        if not tasks:
            raise HistoryError(
                f"{self.path} has no task yet: its tracker has only just begun; try again later"
            )
        if task is None:
            return tasks[-1]
        named = {str(record.index): record for record in tasks}
        if isinstance(task, str):
            named |= {record.name: record for record in tasks}
        if str(task) in named:
            return named[str(task)]
        hint = suggest(str(task), [record.name for record in tasks])
        raise HistoryError(f"{self.path} has no task {task!r}; {hint}")

    def _check_group(self, group: str) -> None:
        names = [name for (name,) in self._rows("SELECT name FROM groups ORDER BY position")]
        if group not in names:
            raise HistoryError(f"{self.path} has no group {group!r}; {suggest(group, names)}")

    def _no_unit(self, group: str, unit: int) -> HistoryError:
        self._check_group(group)
        first, last = self._rows(
            "SELECT MIN(unit), MAX(unit) FROM units WHERE group_name = ?", group
        )[0]
        ids = "it has none" if first is None else f"ids so far: {first} to {last}"
        return HistoryError(f"unit {unit} does not exist in group {group!r} ({ids})")
