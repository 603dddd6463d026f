"""The writing side of a topology history: rows in, inside transactions."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from growmas.errors import HistoryError
from growmas.history.schema import create, open_to_write

LayerRow = tuple[str, str, str | None, int | None, int | None, int]


class Store:
    """One connection that writes a topology history; `growmas.history.schema` has the tables.

    Every method that changes rows expects to be called inside `transaction()`.

    Args:
        connection: From `schema.create` or `schema.open_to_write`.
        path: The file, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> "Store":
        """Make a new file; see `schema.create` for the errors."""
        return cls(create(path, overwrite=overwrite), path)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open an existing file; see `schema.open_to_write` for the errors."""
        return cls(open_to_write(path), path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of what happens inside, or none of it; inside another one, as part of it.

        Raises:
            HistoryError: If SQLite refuses, with its reason.
        """
        inside_another = self._connection.in_transaction
        if inside_another:
            yield
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite ends it by itself on a full disk
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise HistoryError(f"{self._path} could not be written: {error}") from error

    def close(self) -> None:
        """Close the file, as a single one without WAL unless a reader is looking at it."""
        try:
            self._connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError:
            # A reader is connected, so the WAL stays; what it holds goes into the file proper.
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            self._connection.close()

    def set_meta(self, facts: Mapping[str, str]) -> None:
        """Write facts about the file."""
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())

    # Tasks

    def tasks(self) -> list[tuple[str, bool]]:
        """Every task's name and whether it has had a snapshot; the position is the index."""
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

    def finish_task(self, task: int) -> None:
        """Note that a snapshot of the task was taken now."""
        self._connection.execute("UPDATE tasks SET finished = ? WHERE task = ?", (_now(), task))

    def merge_into_previous(self, task: int) -> None:
        """Give the edits of a task without snapshots to the task before it and drop the task."""
        for table, column in (
            ("units", "birth_task"),
            ("units", "death_task"),
            ("events", "task"),
        ):
            self._connection.execute(
                f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (task - 1, task)
            )
        for table in ("layers", "edges", "tasks"):
            self._connection.execute(f"DELETE FROM {table} WHERE task = ?", (task,))

    def forget_after(self, task: int) -> None:
        """Undo what was written about later tasks: their units, deaths, edits and snapshots."""
        for table in ("importance", "metrics", "layers", "edges"):
            self._connection.execute(f"DELETE FROM {table} WHERE task > ?", (task,))
        self._connection.execute("DELETE FROM units WHERE birth_task > ?", (task,))
        self._connection.execute(
            "UPDATE units SET death_task = NULL, death_event = NULL WHERE death_task > ?", (task,)
        )
        for table in ("events", "tasks"):
            self._connection.execute(f"DELETE FROM {table} WHERE task > ?", (task,))

    # Units

    def living(self) -> dict[str, frozenset[int]]:
        """The living units of each group."""
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
        """Add the groups not yet known; `kinds` maps a group's name to its kind."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO groups (name, kind) VALUES (?, ?)", kinds.items()
        )

    def add_event(self, task: int, reason: str) -> int:
        """Add an edit and return its id."""
        cursor = self._connection.execute(
            "INSERT INTO events (task, reason, time) VALUES (?, ?, ?)", (task, reason, _now())
        )
        return int(cursor.lastrowid or 0)

    def add_units(
        self,
        group: str,
        births: Mapping[int, int],
        *,
        event: int | None = None,
        parents: Mapping[int, int] | None = None,
    ) -> None:
        """Add units; `births` maps each one's id to its birth task."""
        parents = parents or {}
        self._connection.executemany(
            "INSERT INTO units (group_name, unit, birth_task, birth_event, parent) "
            "VALUES (?, ?, ?, ?, ?)",
            ((group, unit, task, event, parents.get(unit)) for unit, task in births.items()),
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
                f"{cursor.rowcount} of them are alive in this history: make one tracker per "
                "structure, before its first edit"
            )

    # What a task looks like

    def write_topology(
        self, task: int, layers: Iterable[LayerRow], edges: Iterable[tuple[str, str]]
    ) -> None:
        """Replace the layers and edges of a task."""
        self._clear(task, "layers", "edges")
        self._connection.executemany(
            "INSERT INTO layers (task, position, name, kind, group_name, in_width, out_width, "
            "parameters) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((task, position, *layer) for position, layer in enumerate(layers)),
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO edges VALUES (?, ?, ?)", ((task, *edge) for edge in edges)
        )

    def write_metrics(self, task: int, metrics: Mapping[str, float]) -> None:
        """Replace the metrics of a task."""
        self._clear(task, "metrics")
        self._connection.executemany(
            "INSERT INTO metrics VALUES (?, ?, ?)",
            ((task, name, value) for name, value in metrics.items()),
        )

    def write_importance(self, task: int, values: Mapping[str, Mapping[int, float]]) -> None:
        """Replace the importance of units at a task; `values` maps group to unit to value."""
        self._clear(task, "importance")
        for group, by_unit in sorted(values.items()):
            self._connection.executemany(
                "INSERT INTO importance VALUES (?, ?, ?, ?)",
                ((task, group, unit, value) for unit, value in by_unit.items()),
            )

    def _clear(self, task: int, *tables: str) -> None:
        for table in tables:
            self._connection.execute(f"DELETE FROM {table} WHERE task = ?", (task,))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
