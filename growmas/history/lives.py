"""Lifelines, turnover and cohorts of units, read from the tables."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from growmas.history.records import (
    Cohort,
    GroupImportance,
    GroupState,
    Lifeline,
    Stretch,
    TaskRecord,
    Turnover,
)

Rows = Callable[..., list[Any]]
"""A function `rows(query, *values)` that returns all rows of an SQL query."""

_PAGE = 4096  # units read at once
_FIRST = -(2**63)  # before every id

_LIFELINES = """
SELECT units.group_name, unit, parent, born.name, birth.reason, gone.name, death.reason, replaced,
    death_task
FROM units
JOIN tasks AS born ON born.task = birth_task
LEFT JOIN events AS birth ON birth.event = birth_event
LEFT JOIN tasks AS gone ON gone.task = death_task
LEFT JOIN events AS death ON death.event = death_event
WHERE units.group_name = ? AND unit >= ? ORDER BY unit LIMIT ?
"""


def each_lifeline(
    rows: Rows, tasks: tuple[TaskRecord, ...], group: str | None = None
) -> Iterator[Lifeline]:
    """Yield the lifelines of one group's units or of all, with a few of them in memory at once."""
    names = [name for (name,) in rows("SELECT name FROM groups ORDER BY position")]
    for name in names if group is None else [group]:
        first = _FIRST
        while page := _page(rows, tasks, name, first, _PAGE):
            yield from page
            first = page[-1].unit + 1


def lifeline(rows: Rows, tasks: tuple[TaskRecord, ...], group: str, unit: int) -> Lifeline | None:
    """Return the lifeline of one unit; None if there is no such unit."""
    found = _page(rows, tasks, group, unit, 1)
    return found[0] if found and found[0].unit == unit else None


def _page(
    rows: Rows, tasks: tuple[TaskRecord, ...], group: str, first: int, most: int
) -> list[Lifeline]:
    """Return the lifelines of some units of a group, from an id on."""
    found = rows(_LIFELINES, group, first, most)
    if not found:
        return []
    stretches = _stretches(rows, group, first, found[-1][1])
    return [
        replace(Lifeline(*life), frozen=tuple(_named(stretches[life[1]], death, tasks)))
        if life[1] in stretches
        else Lifeline(*life)
        for *life, death in found
    ]


def turnover(rows: Rows, tasks: tuple[TaskRecord, ...]) -> dict[str, dict[str, Turnover]]:
    """Return the `Turnover` per group and task."""
    births = rows(
        "SELECT group_name, birth_task, COUNT(*), "
        "SUM(birth_event IS NULL AND birth_task = 0) FROM units GROUP BY 1, 2"
    )
    deaths = rows(
        "SELECT group_name, death_task, COUNT(*) FROM units "
        "WHERE death_task IS NOT NULL GROUP BY 1, 2"
    )
    firsts = {group: first for group, task, _, first in births if task == 0}
    born = {(group, task): count - first for group, task, count, first in births}
    died = {(group, task): count for group, task, count in deaths}
    result: dict[str, dict[str, Turnover]] = {}
    for (group,) in rows("SELECT name FROM groups ORDER BY position"):
        width = firsts.get(group, 0)
        result[group] = {}
        for task in tasks:
            plus, minus = born.get((group, task.index), 0), died.get((group, task.index), 0)
            result[group][task.name] = Turnover(width, plus, minus, width + plus - minus)
            width += plus - minus
    return result


def group_states(
    rows: Rows, task: int, importance: Mapping[str, GroupImportance]
) -> dict[str, GroupState]:
    """Return the counts of each group at the end of a task, with its importance where measured."""
    counts = rows(
        "SELECT name, COUNT(unit), IFNULL(SUM(birth_event IS NOT NULL OR birth_task > 0), 0), "
        "IFNULL(SUM(death_task <= ?1), 0) FROM groups "
        "LEFT JOIN units ON group_name = name AND birth_task <= ?1 "
        "GROUP BY position ORDER BY position",
        task,
    )
    return {
        name: GroupState(ever - pruned, ever, born, pruned, importance.get(name))
        for name, ever, born, pruned in counts
    }


def ids_where(rows: Rows, condition: str, *values: object) -> dict[str, tuple[int, ...]]:
    """Return the ids of the units that meet an SQL condition, for every group."""
    ids: dict[str, list[int]] = {
        name: [] for (name,) in rows("SELECT name FROM groups ORDER BY position")
    }
    query = f"SELECT group_name, unit FROM units WHERE {condition} ORDER BY unit"
    for group, unit in rows(query, *values):
        ids[group].append(unit)
    return {group: tuple(units) for group, units in ids.items()}


def ids_by_event(rows: Rows, column: str) -> dict[int, dict[str, tuple[int, ...]]]:
    """Return ids of units per group, by the event in a column: "birth_event" or "death_event"."""
    ids: dict[int, dict[str, list[int]]] = {}
    query = f"SELECT {column}, group_name, unit FROM units WHERE {column} IS NOT NULL"
    for event, group, unit in rows(query):
        ids.setdefault(event, {}).setdefault(group, []).append(unit)
    return {
        event: {group: tuple(units) for group, units in by_group.items()}
        for event, by_group in ids.items()
    }


def cohorts(rows: Rows, tasks: tuple[TaskRecord, ...], group: str | None) -> tuple[Cohort, ...]:
    """Return the cohorts of one group, or of all groups together."""
    where = "" if group is None else "WHERE group_name = ?"
    counts = rows(
        "SELECT birth_task, NOT (birth_event IS NULL AND birth_task = 0), death_task, COUNT(*) "
        f"FROM units {where} GROUP BY 1, 2, 3 ORDER BY 1, 2",
        *(() if group is None else (group,)),
    )
    found = []
    for (birth, later), same in groupby(counts, key=lambda row: row[:2]):
        deaths = {death: count for _, _, death, count in same}
        size = alive = sum(deaths.values())
        by_task = {}
        for task in tasks[birth:]:
            alive -= deaths.get(task.index, 0)
            by_task[task.name] = alive
        found.append(Cohort(tasks[birth].name, not later, size, by_task))
    return tuple(found)


def _stretches(
    rows: Rows, group: str, first: int, last: int
) -> dict[int, list[tuple[int, int | None]]]:
    """Return the frozen stretches of a group's units from one id to another."""
    found: dict[int, list[tuple[int, int | None]]] = {}
    query = (
        "SELECT unit, since_task, until_task FROM frozen "
        "WHERE group_name = ? AND unit BETWEEN ? AND ? ORDER BY unit, since_task"
    )
    for unit, since, until in rows(query, group, first, last):
        found.setdefault(unit, []).append((since, until))
    return found


def _named(
    stretches: list[tuple[int, int | None]], death: int | None, tasks: tuple[TaskRecord, ...]
) -> Iterator[Stretch]:
    """Yield stretches by the names of their first and last task, cut at the unit's death."""
    for since, until in stretches:
        ends = [end for end in (until, death, len(tasks)) if end is not None]
        if min(ends) > since:
            yield tasks[since].name, tasks[min(ends) - 1].name
