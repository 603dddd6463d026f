"""The writer of a topology history: adds, replaces and deletes rows inside transactions."""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from growmas.errors import HistoryError
from growmas.history.importance import PackedImportance, Shares
from growmas.history.measures import write_frozen, write_importance, write_shares
from growmas.history.schema import BUSY_TIMEOUT, create, open_to_write
from growmas.history.tables import FLOPS_OF, ONE_SAMPLE, SCALARS

Json = Mapping[str, object]
LayerRow = tuple[str, str, str | None, int | None, int | None, int, int | None]
OperationRow = tuple[str, str, int | None]


@dataclass(frozen=True)
class Topology:
    """Layers, operations, data flow and size of the network.

    Attributes:
        layers: Name, kind, group, width of input and of output, parameters and FLOPs of each.
        operations: Name, kind and width of each.
        edges: Data flow between layers and operations.
        units: Number of units, of all groups.
        parameters: Number of parameters of the whole network.
        flops: FLOPs of one sample; None if they were not counted.
    """

    layers: Sequence[LayerRow]
    operations: Sequence[OperationRow]
    edges: Sequence[tuple[str, str]]
    units: int
    parameters: int
    flops: int | None


_TOPOLOGY = ("layers", "operations", "edges", "sizes")


class Store:
    """A connection that writes a topology history; `growmas.history.tables` has the tables.

    Call every method that changes rows inside `transaction()`.

    Args:
        connection: Connection from `schema.create` or `schema.open_to_write`.
        path: The file, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._last_event = self.last_event()

    @classmethod
    def create(cls, path: Path, *, overwrite: bool, timeout: float = BUSY_TIMEOUT) -> "Store":
        """Create a new file; raises what `schema.create` raises."""
        return cls(create(path, overwrite=overwrite, timeout=timeout), path)

    @classmethod
    def open(cls, path: Path, *, timeout: float = BUSY_TIMEOUT) -> "Store":
        """Open an existing file; raises what `schema.open_to_write` raises."""
        return cls(open_to_write(path, timeout=timeout), path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all changes made inside, or none; an inner transaction is part of the outer one.

        Raises:
            HistoryError: If SQLite cannot write, with its reason, or if something else has written
                events since the file was opened.
        """
        inside_another = self._connection.in_transaction
        if inside_another:
            yield
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._check_only_writer()
                yield
                last = self.last_event()
                self._connection.execute("COMMIT")
                self._last_event = last
            except BaseException:
                if self._connection.in_transaction:  # on a full disk SQLite ends it by itself
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise HistoryError(f"{self._path} could not be written: {error}") from error

    def _check_only_writer(self) -> None:
        last = self.last_event()
        if last != self._last_event:
            raise HistoryError(
                f"{self._path} ends with event {last}, and this tracker left it at event "
                f"{self._last_event}: another tracker writes to it. Give each run a file of its own"
            )

    def close(self) -> None:
        """Close the file; without a reader, and with free space, no -wal file is left."""
        with suppress(sqlite3.OperationalError):
            try:
                self._connection.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError:
                # The -wal file stays and holds all that was written; move what can be moved now.
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._connection.close()

    def set_meta(self, facts: Mapping[str, str]) -> None:
        """Write facts about the file."""
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())

    def meta(self) -> dict[str, str]:
        """Return the facts about the file."""
        return dict(self._connection.execute("SELECT key, value FROM meta"))

    def drop_other_flops(self) -> None:
        """Forget the FLOPs of a whole batch that earlier versions wrote: they compare to no other.

        Call it where a history is continued, so that all FLOPs in it are of one sample.
        """
        if self.meta().get(FLOPS_OF) == ONE_SAMPLE:
            return
        self._connection.execute("UPDATE sizes SET flops = NULL")
        self._connection.execute("UPDATE layers SET flops = NULL")
        self.set_meta({FLOPS_OF: ONE_SAMPLE})

    # Tasks

    def tasks(self) -> list[tuple[str, bool]]:
        """Return each task's name and True if it had a snapshot; the position is the index."""
        rows = self._connection.execute(
            "SELECT name, finished IS NOT NULL FROM tasks ORDER BY task"
        )
        return [(name, bool(finished)) for name, finished in rows]

    def add_task(self, name: str | None = None) -> int:
        """Add a task and return its index N; without a name it is "task N" until `name_task`."""
        names = [known for known, _ in self.tasks()]
        task = len(names)
        if name is None:
            name = f"task {task}"
            name += " (unnamed)" if name in names else ""
        self._connection.execute("INSERT INTO tasks VALUES (?, ?, ?, NULL)", (task, name, _now()))
        return task

    def name_task(self, task: int, name: str) -> None:
        """Give a task its name."""
        self._connection.execute("UPDATE tasks SET name = ? WHERE task = ?", (name, task))

    def has_begun(self, task: int) -> bool:
        """Return True if the beginning of a task was written."""
        query = "SELECT 1 FROM events WHERE task = ? AND kind = 'begin'"
        return self._connection.execute(query, (task,)).fetchone() is not None

    def finish_task(self, task: int) -> None:
        """Set the time of the task's latest snapshot to now."""
        self._connection.execute("UPDATE tasks SET finished = ? WHERE task = ?", (_now(), task))

    def merge_into_previous(self, task: int) -> None:
        """Move the edits of a task without snapshots to the task before it, and delete the task."""
        for table, column in (
            ("units", "birth_task"),
            ("units", "death_task"),
            ("events", "task"),
        ):
            self._connection.execute(
                f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (task - 1, task)
            )
        self._clear(task, *_TOPOLOGY, "tasks")

    def delete_after(self, task: int) -> None:
        """Delete what was written about tasks after `task`; what they ended goes on."""
        for table in ("importance", "consumers", "metrics", *_TOPOLOGY):
            self._connection.execute(f"DELETE FROM {table} WHERE task > ?", (task,))
        self._undo_frozen(task + 1)
        self._connection.execute("DELETE FROM units WHERE birth_task > ?", (task,))
        self._connection.execute(
            "UPDATE units SET death_task = NULL, death_event = NULL WHERE death_task > ?", (task,)
        )
        for table in ("events", "tasks"):
            self._connection.execute(f"DELETE FROM {table} WHERE task > ?", (task,))

    def delete_events_after(self, task: int, event: int) -> None:
        """Delete what was written about the last task after an event; what it ended goes on.

        Importance measured after the event is deleted. Metrics and frozen units are deleted if no
        earlier snapshot of the task is left; if one is left, they may be of either snapshot and
        stay.
        """
        self._connection.execute("DELETE FROM units WHERE birth_event > ?", (event,))
        self._connection.execute(
            "UPDATE units SET death_task = NULL, death_event = NULL WHERE death_event > ?", (event,)
        )
        self._connection.execute("DELETE FROM events WHERE event > ?", (event,))
        query = "SELECT IFNULL(MAX(event), 0) FROM events WHERE task = ? AND kind = 'snapshot'"
        (snapshot,) = self._connection.execute(query, (task,)).fetchone()
        for table in ("importance", "consumers"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE task = ? AND event >= ?", (task, snapshot)
            )
        if not snapshot:
            self._clear(task, "metrics")
            self._undo_frozen(task)
            self._connection.execute("UPDATE tasks SET finished = NULL WHERE task = ?", (task,))

    def _undo_frozen(self, task: int) -> None:
        """Undo what a task and later ones wrote about frozen units."""
        self._connection.execute("DELETE FROM frozen WHERE since_task >= ?", (task,))
        self._connection.execute(
            "UPDATE frozen SET until_task = NULL WHERE until_task >= ?", (task,)
        )

    # Units

    def living(self) -> dict[str, frozenset[int]]:
        """Return the ids of the living units of each group."""
        units: dict[str, set[int]] = {
            name: set() for (name,) in self._connection.execute("SELECT name FROM groups")
        }
        rows = self._connection.execute(
            "SELECT group_name, unit FROM units WHERE death_task IS NULL"
        )
        for group, unit in rows:
            units[group].add(unit)
        return {group: frozenset(ids) for group, ids in units.items()}

    def add_groups(self, kinds: Mapping[str, str]) -> None:
        """Add the groups that are not there yet; `kinds` maps a group's name to its kind."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO groups (name, kind) VALUES (?, ?)", kinds.items()
        )

    def add_event(self, task: int, kind: str, reason: str, cause: Json | None = None) -> int:
        """Add an event and return its number."""
        cursor = self._connection.execute(
            "INSERT INTO events (task, kind, reason, cause, time) VALUES (?, ?, ?, ?, ?)",
            (task, kind, reason, json.dumps(cause or {}), _now()),
        )
        return int(cursor.lastrowid or 0)

    def last_event(self) -> int:
        """Return the number of the last event; 0 before the first."""
        (event,) = self._connection.execute("SELECT IFNULL(MAX(event), 0) FROM events").fetchone()
        return int(event)

    def add_units(
        self,
        group: str,
        births: Mapping[int, int],
        *,
        event: int | None = None,
        parents: Mapping[int, int] | None = None,
        replaced: Mapping[int, int] | None = None,
    ) -> None:
        """Add units; `births` maps each one's id to its birth task."""
        parents, replaced = parents or {}, replaced or {}
        self._connection.executemany(
            "INSERT INTO units (group_name, unit, birth_task, birth_event, parent, replaced) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                (group, unit, task, event, parents.get(unit), replaced.get(unit))
                for unit, task in births.items()
            ),
        )

    def end_units(self, group: str, units: Sequence[int], *, task: int, event: int) -> None:
        """Write the death of living units.

        Raises:
            HistoryError: If one of them is not a living unit of this history.
        """
        cursor = self._connection.executemany(
            "UPDATE units SET death_task = ?, death_event = ? "
            "WHERE group_name = ? AND unit = ? AND death_task IS NULL",
            ((task, event, group, unit) for unit in units),
        )
        if units and cursor.rowcount != len(units):
            raise HistoryError(
                f"{self._path}: the edit removed {len(units)} units of {group!r} and only "
                f"{cursor.rowcount} of them are alive in this history: create one tracker per "
                "structure, before its first edit"
            )

    # The network at the end of a task

    def write_topology(self, task: int, topology: Topology) -> None:
        """Replace the layers, operations, edges and size of a task."""
        self._clear(task, *_TOPOLOGY)
        self._connection.executemany(
            "INSERT INTO layers (task, position, name, kind, group_name, in_width, out_width, "
            "parameters, flops) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((task, position, *layer) for position, layer in enumerate(topology.layers)),
        )
        self._connection.executemany(
            "INSERT INTO operations (task, position, name, kind, width) VALUES (?, ?, ?, ?, ?)",
            ((task, position, *row) for position, row in enumerate(topology.operations)),
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO edges VALUES (?, ?, ?)",
            ((task, *edge) for edge in topology.edges),
        )
        self._connection.execute(
            "INSERT INTO sizes VALUES (?, ?, ?, ?)",
            (task, topology.units, topology.parameters, topology.flops),
        )

    def write_metrics(self, task: int, metrics: Mapping[str, float]) -> None:
        """Replace the metrics of a task."""
        self._clear(task, "metrics")
        self._connection.executemany(
            "INSERT INTO metrics VALUES (?, ?, ?)",
            ((task, name, value) for name, value in metrics.items()),
        )

    def write_scalars(
        self, step: int, task: str, epoch: int | None, values: Mapping[str, float]
    ) -> None:
        """Write numbers of training; those of the same step and name are replaced."""
        self._connection.execute(SCALARS)
        self._connection.executemany(
            "INSERT OR REPLACE INTO scalars VALUES (?, ?, ?, ?, ?)",
            ((step, name, value, task, epoch) for name, value in values.items()),
        )

    def write_importance(
        self, task: int, values: Mapping[str, PackedImportance], consumers: Mapping[str, Shares]
    ) -> None:
        """Replace the importance of units at a task and the shares of their consumers."""
        self._clear(task, "importance", "consumers")
        event = self.last_event()
        for group, numbers in values.items():
            write_importance(self._connection, task, group, event, numbers)
        for group, shares in consumers.items():
            write_shares(self._connection, task, group, event, shares)

    def write_frozen(self, task: int, frozen: Mapping[str, Collection[int]]) -> None:
        """Replace the units that are frozen from a task on, by group."""
        write_frozen(self._connection, task, frozen)

    def _clear(self, task: int, *tables: str) -> None:
        for table in tables:
            self._connection.execute(f"DELETE FROM {table} WHERE task = ?", (task,))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
