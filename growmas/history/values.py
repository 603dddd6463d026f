"""Importance and consumers of units, read from the tables and their blobs."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from growmas.errors import HistoryError
from growmas.history.importance import SHARES, Lifetimes, unpacked
from growmas.history.lives import Rows
from growmas.history.living import LivingUnits
from growmas.history.records import GroupImportance, TaskRecord

_LIVES = (
    "SELECT unit, IFNULL(birth_event, 0), death_event FROM units WHERE group_name = ? ORDER BY unit"
)


@dataclass(frozen=True)
class Measured:
    """Importance of the U units of a group at a snapshot.

    Attributes:
        task: Name of the task.
        group: Name of the group.
        units: The living units; updated in place when the next snapshot is read.
        values: [U] float32 importances, by ascending id.
    """

    task: str
    group: str
    units: LivingUnits
    values: "array[float]"


def lifetimes(rows: Rows, group: str) -> Lifetimes:
    """Return the births and deaths of the units of a group."""
    return Lifetimes({unit: (birth, death) for unit, birth, death in rows(_LIVES, group)})


def importance_at(rows: Rows, task: int) -> dict[str, dict[int, float]]:
    """Return importance at a task's snapshot by group and unit."""
    found = rows(
        "SELECT name, event, data FROM importance JOIN importance_data USING (task, group_name) "
        "JOIN groups ON name = group_name WHERE task = ? ORDER BY position",
        task,
    )
    return {
        group: _by_unit(group, lifetimes(rows, group).alive(event), data)
        for group, event, data in found
    }


def each_importance(rows: Rows, tasks: tuple[TaskRecord, ...]) -> Iterator[Measured]:
    """Yield the importance of each group at each snapshot, by task and group."""
    living: dict[str, LivingUnits] = {}
    groups = rows("SELECT name FROM groups ORDER BY position")
    for task in tasks:
        query = "SELECT group_name, event FROM importance WHERE task = ?"
        events = dict(rows(query, task.index))
        for (group,) in (group for group in groups if group[0] in events):
            if group not in living:
                living[group] = LivingUnits(rows(_LIVES, group))
            living[group].move_to(events[group])
            query = "SELECT data FROM importance_data WHERE task = ? AND group_name = ?"
            for (data,) in rows(query, task.index, group):
                _check_number(group, living[group].ids, data)
                yield Measured(task.name, group, living[group], unpacked(data))


def importance_of(rows: Rows, group: str) -> dict[str, dict[int, float]]:
    """Return the importance of a group by task and unit."""
    found = rows(
        "SELECT name, event, data FROM importance JOIN importance_data USING (task, group_name) "
        "JOIN tasks USING (task) WHERE group_name = ? ORDER BY task",
        group,
    )
    lives = lifetimes(rows, group)
    return {task: _by_unit(group, lives.alive(event), data) for task, event, data in found}


def importance_of_unit(rows: Rows, group: str, unit: int) -> dict[str, float]:
    """Return the importance of a unit by task."""
    position = lifetimes(rows, group).position(unit)
    events = rows("SELECT task, event FROM importance WHERE group_name = ? ORDER BY task", group)
    positions = ((task, position.after(event)) for task, event in events)
    return {
        name: unpacked(data)[0]
        for task, at in positions
        if at is not None
        for name, data in rows(
            "SELECT name, substr(data, ?, 4) FROM importance_data JOIN tasks USING (task) "
            "WHERE task = ? AND group_name = ?",
            4 * at + 1,
            task,
            group,
        )
    }


def summaries(rows: Rows, task: int | None = None) -> dict[str, dict[str, GroupImportance]]:
    """Return the summed-up importance by group and task, of one task or of all."""
    where = "" if task is None else "WHERE task = ?"
    found = rows(
        "SELECT group_name, tasks.name, units, total, mean, least, most, zeros FROM importance "
        f"JOIN tasks USING (task) JOIN groups ON groups.name = group_name {where} "
        "ORDER BY position, task",
        *(() if task is None else (task,)),
    )
    result: dict[str, dict[str, GroupImportance]] = {}
    for group, name, *numbers in found:
        result.setdefault(group, {})[name] = GroupImportance(*numbers)
    return result


def consumers_at(rows: Rows, task: int) -> dict[str, dict[str, float]]:
    """Return each layer's share of a group's importance at a task's snapshot, by group."""
    result: dict[str, dict[str, float]] = {}
    query = "SELECT group_name, layer, share FROM consumers WHERE task = ?"
    for group, layer, share in rows(query, task):
        result.setdefault(group, {})[layer] = share
    return result


def consumers_of(rows: Rows, group: str, unit: int) -> dict[str, dict[str, float]]:
    """Return each layer's share of a unit's importance, by task."""
    position = lifetimes(rows, group).position(unit)
    result: dict[str, dict[str, float]] = {}
    for name, task, layer, event in rows(
        "SELECT name, task, layer, event FROM consumers JOIN tasks USING (task) "
        "WHERE group_name = ? ORDER BY task, share DESC",
        group,
    ):
        at = position.after(event)
        for share in () if at is None else _share(rows, task, group, layer, at):
            result.setdefault(name, {})[layer] = share
    return result


def _share(rows: Rows, task: int, group: str, layer: str, at: int) -> Iterator[float]:
    """Yield a layer's share of a unit unless it is 0; 1 if the layer is the only consumer."""
    found = rows(
        "SELECT substr(data, ?, 1) FROM consumers_data "
        "WHERE task = ? AND group_name = ? AND layer = ?",
        *(at + 1, task, group, layer),
    )
    share = found[0][0][0] / SHARES if found else 1.0
    if share:
        yield share


def _by_unit(group: str, units: Sequence[int], data: bytes) -> dict[int, float]:
    _check_number(group, units, data)
    return dict(zip(units, unpacked(data), strict=True))


def _check_number(group: str, units: Sequence[int], data: bytes) -> None:
    if not isinstance(data, bytes) or len(data) != 4 * len(units):
        raise HistoryError(
            f"the history is damaged: the importance of {group!r} does not have 4 bytes for each "
            f"of {len(units)} living units; look at it with growmas doctor"
        )
