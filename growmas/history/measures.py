"""Rows about units at a snapshot: importance, consumers and frozen units."""

import sqlite3
from collections.abc import Collection, Mapping

from growmas.history.importance import PackedImportance, Shares


def write_importance(
    connection: sqlite3.Connection, task: int, group: str, event: int, numbers: PackedImportance
) -> None:
    """Add the importance of a group, measured after an event."""
    mean = numbers.total / numbers.units if numbers.units else 0.0
    sizes = (numbers.units, numbers.total, mean, numbers.least, numbers.most, numbers.zeros)
    connection.execute(
        "INSERT INTO importance VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (task, group, event, *sizes)
    )
    connection.execute("INSERT INTO importance_data VALUES (?, ?, ?)", (task, group, numbers.data))


def write_shares(
    connection: sqlite3.Connection, task: int, group: str, event: int, shares: Shares
) -> None:
    """Add each consumer's share of the importance of a group, measured after an event."""
    connection.executemany(
        "INSERT INTO consumers VALUES (?, ?, ?, ?, ?)",
        ((task, group, layer, event, share) for layer, (share, _) in shares.items()),
    )
    connection.executemany(
        "INSERT INTO consumers_data VALUES (?, ?, ?, ?)",
        ((task, group, layer, data) for layer, (_, data) in shares.items() if data is not None),
    )


def write_frozen(
    connection: sqlite3.Connection, task: int, frozen: Mapping[str, Collection[int]]
) -> None:
    """Set the units that are frozen from a task on, until a later task sets others."""
    connection.execute("DELETE FROM frozen WHERE since_task = ?", (task,))
    connection.execute("UPDATE frozen SET until_task = NULL WHERE until_task = ?", (task,))
    rows = connection.execute("SELECT group_name, unit FROM frozen WHERE until_task IS NULL")
    before = {(group, unit) for group, unit in rows}
    now = {(group, unit) for group, units in frozen.items() for unit in units}
    connection.executemany(
        "UPDATE frozen SET until_task = ? WHERE group_name = ? AND unit = ? AND until_task IS NULL",
        ((task, *unit) for unit in sorted(before - now)),
    )
    connection.executemany(
        "INSERT INTO frozen VALUES (?, ?, ?, NULL)",
        ((*unit, task) for unit in sorted(now - before)),
    )
