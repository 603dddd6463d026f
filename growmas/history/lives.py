"""Reading when units lived, and how births and deaths add up."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from growmas.history.records import Cohort, Lifeline, Stretch, TaskRecord, Turnover

Rows = Callable[..., list[Any]]
"""`rows(query, *values)`: all rows of an SQL query."""

_LIFELINES = """
SELECT units.group_name, unit, parent, born.name, birth.reason, gone.name, death.reason, replaced,
    death_task
FROM units
JOIN groups ON groups.name = units.group_name
JOIN tasks AS born ON born.task = birth_task
LEFT JOIN events AS birth ON birth.event = birth_event
LEFT JOIN tasks AS gone ON gone.task = death_task
LEFT JOIN events AS death ON death.event = death_event
"""


def lifelines(
    rows: Rows, tasks: tuple[TaskRecord, ...], group: str | None = None, unit: int | None = None
) -> tuple[Lifeline, ...]:
    """The lives of all units, of one group's, or of one unit."""
    parts = {"units.group_name = ?": group, "unit = ?": unit}
    asked = {part: value for part, value in parts.items() if value is not None}
    where = f"WHERE {' AND '.join(asked)}" if asked else ""
    found = rows(f"{_LIFELINES} {where} ORDER BY position, unit", *asked.values())
    stretches = _stretches(rows, where.replace("units.", ""), tuple(asked.values()))
    return tuple(
        replace(Lifeline(*life), frozen=tuple(_named(stretches[life[0], life[1]], death, tasks)))
        if (life[0], life[1]) in stretches
        else Lifeline(*life)
        for *life, death in found
    )


def turnover(rows: Rows, tasks: tuple[TaskRecord, ...]) -> dict[str, dict[str, Turnover]]:
    """Group to task to `Turnover`."""
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


def cohorts(rows: Rows, tasks: tuple[TaskRecord, ...], group: str | None) -> tuple[Cohort, ...]:
    """The cohorts of one group, or of all together."""
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
    rows: Rows, where: str, values: tuple[object, ...]
) -> dict[tuple[str, int], list[tuple[int, int | None]]]:
    found: dict[tuple[str, int], list[tuple[int, int | None]]] = {}
    query = f"SELECT group_name, unit, since_task, until_task FROM frozen {where} ORDER BY 1, 2, 3"
    for group, unit, since, until in rows(query, *values):
        found.setdefault((group, unit), []).append((since, until))
    return found


def _named(
    stretches: list[tuple[int, int | None]], death: int | None, tasks: tuple[TaskRecord, ...]
) -> Iterator[Stretch]:
    """Stretches by the names of their first and last task, none beyond the unit's death."""
    for since, until in stretches:
        ends = [end for end in (until, death, len(tasks)) if end is not None]
        if min(ends) > since:
            yield tasks[since].name, tasks[min(ends) - 1].name
