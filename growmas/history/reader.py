"""Reading a topology history: what the network was after each task, and why."""

import json
import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from growmas.closeable import Closeable
from growmas.errors import HistoryError
from growmas.history import differences, lives, values
from growmas.history.records import (
    Cohort,
    EventRecord,
    GroupImportance,
    GroupRecord,
    LayerRecord,
    Lifeline,
    NetworkState,
    OperationRecord,
    SizeRecord,
    TaskRecord,
    TopologyDiff,
    Turnover,
    UnitRecord,
)
from growmas.history.schema import open_to_read

if TYPE_CHECKING:
    import networkx as nx

CHANGES = ("edit", "external")
"""Kinds of events in which units were born or died."""


class TopologyHistory(Closeable):
    """The read side of a topology history; needs no torch and never writes.

    The file may still be written by a running tracker: every method sees the state after some
    whole transaction, and the next call sees the next. Use `frozen` to hold several calls to one
    state. Wherever a task is asked for, its name or its index will do, also an index as text.

    A history of an earlier growmas is read into memory when it is opened, and does not see what
    is written later.

    Use it as a context manager, or call `close`.

    Args:
        path: The file that a `TopologyTracker` wrote.

    Raises:
        HistoryError: If `path` is not a topology history, or one of a newer growmas. All methods
            raise it, with the nearest valid name, for a task, group or unit that is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._connection = open_to_read(self.path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let all calls inside see one and the same state of a file that is being written."""
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
        """A number that is another one whenever somebody has written since; for those who watch."""
        return int(self._rows("PRAGMA data_version")[0][0])

    # Tasks and the network as a whole

    def tasks(self) -> tuple[TaskRecord, ...]:
        """The tasks in order; the last may still be running (`finished` is None)."""
        rows = self._rows("SELECT task, name, started, finished FROM tasks ORDER BY task")
        return tuple(TaskRecord(*row) for row in rows)

    def sizes(self) -> dict[str, SizeRecord]:
        """Units, parameters and FLOPs at the end of each task, by task."""
        rows = self._rows(
            "SELECT name, units, parameters, flops FROM sizes JOIN tasks USING (task) ORDER BY task"
        )
        return {name: SizeRecord(*numbers) for name, *numbers in rows}

    def parameters(self) -> dict[str, int]:
        """The network's parameter count at the end of each task, by task."""
        return {name: size.parameters for name, size in self.sizes().items()}

    def metrics(self, task: str | int) -> dict[str, float]:
        """The metrics of a task's snapshot by name; empty without one."""
        index = self._task(task).index
        return dict(self._rows("SELECT name, value FROM metrics WHERE task = ?", index))

    def all_metrics(self) -> dict[str, dict[str, float]]:
        """The metrics of every snapshot: task to name to value."""
        result: dict[str, dict[str, float]] = {task.name: {} for task in self.tasks()}
        for task, name, value in self._rows(
            "SELECT tasks.name, metrics.name, value FROM metrics JOIN tasks USING (task) "
            "ORDER BY task, metrics.name"
        ):
            result[task][name] = value
        return result

    def accuracy(self) -> tuple[tuple[float | None, ...], ...]:
        """R[i][j], the accuracy on task j after task i, of shape [T, T]; None: not measured.

        It is made of the metrics called "accuracy/NAME", NAME the name of task j.
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
        """The network at the end of a task (default: the last): units, layers, data flow, size."""
        with self.frozen():
            record = self._task(task)
            units = self.units(record.index)
            size = self.sizes().get(record.name)
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
            )

    def diff(self, a: str | int, b: str | int) -> TopologyDiff:
        """The network at the end of task `a` against the one at the end of task `b`.

        Units that were born and died in between are in neither network, hence not in the diff.
        `growmas.history.differences.diff_runs` sets two runs side by side.
        """
        return differences.diff(self, a, b)

    # Units

    def groups(self) -> tuple[GroupRecord, ...]:
        """The groups of units, in the structure's order."""
        rows = self._rows(
            "SELECT name, kind, COUNT(unit) - COUNT(death_task), COUNT(unit) FROM groups "
            "LEFT JOIN units ON group_name = name GROUP BY position ORDER BY position"
        )
        return tuple(GroupRecord(*row) for row in rows)

    def turnover(self) -> dict[str, dict[str, Turnover]]:
        """Units before, born, died and after: group to task to `Turnover`."""
        with self.frozen():
            return lives.turnover(self._rows, self.tasks())

    def widths(self) -> dict[str, dict[str, int]]:
        """Units at the end of each task: group to task to width."""
        return {
            group: {task: turnover.width for task, turnover in by_task.items()}
            for group, by_task in self.turnover().items()
        }

    def survival(self, group: str | None = None) -> tuple[Cohort, ...]:
        """How many units of each birth task live after each task, in one group or (default) all.

        The units that the network began with are a cohort of their own, the first.
        """
        with self.frozen():
            if group is not None:
                self._check_group(group)
            return lives.cohorts(self._rows, self.tasks(), group)

    def born(self, task: str | int) -> dict[str, tuple[int, ...]]:
        """Ids of the units that edits added during a task, per group, those since dead included.

        The units that the network began with are not among them.
        """
        return self._ids("birth_task = ? AND (birth_event IS NOT NULL OR birth_task > 0)", task)

    def died(self, task: str | int) -> dict[str, tuple[int, ...]]:
        """Ids of the units that edits removed during a task, per group."""
        return self._ids("death_task = ?", task)

    def units(self, task: str | int | None = None) -> dict[str, tuple[int, ...]]:
        """Ids of the units alive at the end of a task (default: now), per group."""
        if task is None:
            return self._ids("death_task IS NULL")
        return self._ids("birth_task <= ?1 AND (death_task IS NULL OR death_task > ?1)", task)

    def frozen_units(self, task: str | int | None = None) -> dict[str, tuple[int, ...]]:
        """Ids of the units held fast at the end of a task (default: the last), per group."""
        held = (
            "SELECT 1 FROM frozen WHERE frozen.group_name = units.group_name "
            "AND frozen.unit = units.unit AND since_task <= ?1 AND IFNULL(until_task > ?1, 1)"
        )
        alive = "birth_task <= ?1 AND IFNULL(death_task > ?1, 1)"
        with self.frozen():
            return self._ids(f"{alive} AND EXISTS ({held})", self._task(task).index)

    def unit(self, group: str, unit: int) -> UnitRecord:
        """The whole life of one unit."""
        with self.frozen():
            found = lives.lifelines(self._rows, self.tasks(), group, unit)
            if not found:
                raise self._no_unit(group, unit)
            children = self._rows(
                "SELECT unit FROM units WHERE group_name = ? AND parent = ?", group, unit
            )
            heirs = self._rows(
                "SELECT unit FROM units WHERE group_name = ? AND replaced = ?", group, unit
            )
            return UnitRecord(
                **vars(found[0]),
                children=tuple(child for (child,) in children),
                replaced_by=heirs[0][0] if heirs else None,
                importance=values.importance_of_unit(self._rows, group, unit),
                consumers=values.consumers_of(self._rows, group, unit),
            )

    def lifelines(self, group: str | None = None) -> tuple[Lifeline, ...]:
        """When each unit was born and died, of one group or (default) of all."""
        with self.frozen():
            if group is not None:
                self._check_group(group)
            return lives.lifelines(self._rows, self.tasks(), group)

    # Importance

    def importance(self, task: str | int) -> dict[str, dict[int, float]]:
        """Importance of the units at a task's snapshot: group to unit to value.

        Empty if that snapshot was taken without omega. Values have single precision.
        """
        with self.frozen():
            return values.importance_at(self._rows, self._task(task).index)

    def group_importance(self, group: str) -> dict[str, dict[int, float]]:
        """Importance of one group's units at every snapshot that measured it: task to unit."""
        with self.frozen():
            self._check_group(group)
            return values.importance_of(self._rows, group)

    def importance_summary(self) -> dict[str, dict[str, GroupImportance]]:
        """Importance in a few numbers: group to task to `GroupImportance`; no unit is read."""
        return values.summaries(self._rows)

    def consumers(self, task: str | int) -> dict[str, dict[str, float]]:
        """Which layers read each group, with their shares of its importance, at a snapshot.

        Layers without any share are left out, and groups of no importance; `unit` says it unit by
        unit.
        """
        with self.frozen():
            return values.consumers_at(self._rows, self._task(task).index)

    # Events

    def events(self) -> tuple[EventRecord, ...]:
        """All changes of the structure, in order; `log` has everything that happened."""
        return self.log(CHANGES)

    def log(self, kinds: Collection[str] | None = None) -> tuple[EventRecord, ...]:
        """Everything that happened, or what is of one of these kinds, in order."""
        with self.frozen():
            moves = kinds is None or not {*CHANGES}.isdisjoint(kinds)
            born = self._ids_by_event("birth_event") if moves else {}
            died = self._ids_by_event("death_event") if moves else {}
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

    # Layers and graphs

    def layers(self, task: str | int | None = None) -> tuple[LayerRecord, ...]:
        """The layers at the end of a task (default: the last), in the structure's order."""
        rows = self._rows(
            "SELECT name, kind, group_name, in_width, out_width, parameters, flops FROM layers "
            "WHERE task = ? ORDER BY position",
            self._task(task).index,
        )
        return tuple(LayerRecord(*row) for row in rows)

    def operations(self, task: str | int | None = None) -> tuple[OperationRecord, ...]:
        """The operations between the layers at the end of a task (default: the last)."""
        rows = self._rows(
            "SELECT name, kind, width FROM operations WHERE task = ? ORDER BY position",
            self._task(task).index,
        )
        return tuple(OperationRecord(*row) for row in rows)

    def edges(self, task: str | int | None = None) -> tuple[tuple[str, str], ...]:
        """Data flow between layers and operations at the end of a task (default: the last)."""
        index = self._task(task).index
        return tuple(self._rows("SELECT source, target FROM edges WHERE task = ?", index))

    def graph(self, task: str | int | None = None, *, operations: bool = True) -> "nx.DiGraph[str]":
        """Layers, operations and data flow at the end of a task (default: the last).

        See `growmas.history.graphs.layer_graph` for the attributes.

        Args:
            task: The task.
            operations: False leaves operations out, so that edges lead from layer to layer.
        """
        from growmas.history.graphs import layer_graph  # networkx is loaded when first needed

        with self.frozen():
            index = self._task(task).index
            parts = self.layers(index), self.operations(index), self.edges(index)
        return layer_graph(*parts, with_operations=operations)

    def lineage(self, group: str | None = None) -> "nx.DiGraph[tuple[str, int]]":
        """Every unit that ever lived, with edges to those split from it or put in its place.

        See `growmas.history.graphs.lineage_graph` for the attributes.

        Args:
            group: The group; None takes all.
        """
        from growmas.history.graphs import lineage_graph

        return lineage_graph(self.lifelines(group))

    def _rows(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise HistoryError(f"{self.path} could not be read: {error}") from error

    def _ids(self, condition: str, task: str | int | None = None) -> dict[str, tuple[int, ...]]:
        values = () if task is None else (self._task(task).index,)
        names = self._rows("SELECT name FROM groups ORDER BY position")
        ids: dict[str, list[int]] = {name: [] for (name,) in names}
        query = f"SELECT group_name, unit FROM units WHERE {condition} ORDER BY unit"
        for group, unit in self._rows(query, *values):
            ids[group].append(unit)
        return {group: tuple(units) for group, units in ids.items()}

    def _ids_by_event(self, column: str) -> dict[int, dict[str, tuple[int, ...]]]:
        rows = self._rows(
            f"SELECT {column}, group_name, unit FROM units WHERE {column} IS NOT NULL"
        )
        ids: dict[int, dict[str, list[int]]] = {}
        for event, group, unit in rows:
            ids.setdefault(event, {}).setdefault(group, []).append(unit)
        return {
            event: {group: tuple(units) for group, units in by_group.items()}
            for event, by_group in ids.items()
        }

    def _task(self, task: str | int | None) -> TaskRecord:
        tasks = self.tasks()
        if not tasks:
            raise HistoryError(f"{self.path} has no task yet: its tracker has only just begun")
        if task is None:
            return tasks[-1]
        named = {str(record.index): record for record in tasks}
        if isinstance(task, str):
            named |= {record.name: record for record in tasks}
        if str(task) in named:
            return named[str(task)]
        nearest = _nearest(str(task), [record.name for record in tasks])
        raise HistoryError(f"{self.path} has no task {task!r}; {nearest}")

    def _check_group(self, group: str) -> None:
        names = [name for (name,) in self._rows("SELECT name FROM groups ORDER BY position")]
        if group not in names:
            raise HistoryError(f"{self.path} has no group {group!r}; {_nearest(group, names)}")

    def _no_unit(self, group: str, unit: int) -> HistoryError:
        self._check_group(group)
        rows = self._rows(
            "SELECT unit FROM units WHERE group_name = ? ORDER BY ABS(unit - ?) LIMIT 1",
            group,
            unit,
        )
        nearest = f"the nearest is {rows[0][0]}" if rows else "it has no units"
        return HistoryError(f"group {group!r} never had a unit {unit}; {nearest}")


def _nearest(wanted: str, valid: list[str]) -> str:
    close = get_close_matches(wanted, valid, n=1, cutoff=0.0)
    return f"did you mean {close[0]!r}? It has: {', '.join(valid)}" if close else "it has none"
