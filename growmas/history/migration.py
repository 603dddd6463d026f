"""From the tables of an earlier growmas to those of this one."""

import sqlite3
from itertools import groupby
from pathlib import Path

from growmas.errors import HistoryError
from growmas.history.importance import Measured, measured
from growmas.history.measures import write_measured
from growmas.history.tables import ALL, VERSION

_KEPT = ("meta", "tasks", "groups", "events", "units", "layers", "edges", "metrics")

_COPY = """
INSERT INTO meta SELECT * FROM old_meta;
INSERT INTO tasks SELECT * FROM old_tasks;
INSERT INTO groups SELECT * FROM old_groups;
INSERT INTO events (event, task, reason, time) SELECT event, task, reason, time FROM old_events;
INSERT INTO units (group_name, unit, birth_task, birth_event, parent, death_task, death_event)
    SELECT group_name, unit, birth_task, birth_event, parent, death_task, death_event
    FROM old_units;
INSERT INTO layers (task, name, position, kind, group_name, in_width, out_width, parameters)
    SELECT task, name, position, kind, group_name, in_width, out_width, parameters FROM old_layers;
INSERT INTO edges SELECT * FROM old_edges;
INSERT INTO sizes (task, units, parameters)
    SELECT task, (
        SELECT COUNT(*) FROM units
        WHERE birth_task <= layers.task AND IFNULL(death_task > layers.task, 1)
    ), SUM(parameters) FROM layers GROUP BY task;
INSERT INTO metrics SELECT * FROM old_metrics;
"""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Give a history of version 1 the present tables: all of them or, on an error, none.

    Version 1 held importance as a row per unit, and neither causes, operations nor FLOPs.

    Args:
        connection: Of the history, outside a transaction.
        path: Its file, for messages.

    Raises:
        HistoryError: If it cannot be written, or its rows contradict each other.
    """
    (keys,) = connection.execute("PRAGMA foreign_keys").fetchone()
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA legacy_alter_table = ON")  # references keep to the new tables
    try:
        connection.execute("BEGIN IMMEDIATE")
        _from_1(connection, path)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise HistoryError(
            f"{path} could not be brought up to date: {error}. If the run that wrote it had only "
            "begun, or found no room on the disk, there is nothing in it: run it again"
        ) from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA legacy_alter_table = OFF")
        connection.execute(f"PRAGMA foreign_keys = {keys}")


def _from_1(connection: sqlite3.Connection, path: Path) -> None:
    importance = _importance(connection, path)
    for table in _KEPT:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    connection.execute("DROP INDEX units_by_birth")
    connection.execute("DROP INDEX units_by_death")
    connection.execute("DROP TABLE importance")
    for statement in filter(str.strip, f"{ALL}{_COPY}".split(";")):
        connection.execute(statement)
    for table in _KEPT:
        connection.execute(f"DROP TABLE old_{table}")
    for task, group, event, numbers in importance:
        write_measured(connection, task, group, event, numbers)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _importance(connection: sqlite3.Connection, path: Path) -> list[tuple[int, str, int, Measured]]:
    """Task, group, event and values of every measurement."""
    rows = connection.execute(
        "SELECT task, group_name, unit, value FROM importance ORDER BY task, group_name, unit"
    )
    found = []
    for (task, group), same in groupby(rows, key=lambda row: row[:2]):
        values = {unit: value for _, _, unit, value in same}
        event = _event_of(connection, path, task, group, tuple(values))
        found.append((task, group, event, measured(group, tuple(values), values.values())))
    return found


def _event_of(
    connection: sqlite3.Connection, path: Path, task: int, group: str, units: tuple[int, ...]
) -> int:
    """The last event of a task after which exactly these units were alive."""
    events = connection.execute(
        "SELECT event FROM events WHERE task <= ? ORDER BY event DESC", (task,)
    )
    for event in [*(event for (event,) in events), 0]:
        alive = connection.execute(
            "SELECT unit FROM units WHERE group_name = ?1 AND IFNULL(birth_event <= ?2, 1) "
            "AND IFNULL(death_event > ?2, 1) ORDER BY unit",
            (group, event),
        )
        if tuple(unit for (unit,) in alive) == units:
            return int(event)
    raise HistoryError(
        f"{path}: the importance of {group!r} in task {task} is of {len(units)} units that never "
        "lived together, so the file cannot be brought up to date"
    )
