"""Lookup of tasks and groups by what a user typed."""

from growmas.errors import HistoryError
from growmas.history import TopologyHistory
from growmas.history.records import GroupRecord, TaskRecord
from growmas.history.suggestion import suggest


def all_tasks(history: TopologyHistory) -> tuple[TaskRecord, ...]:
    """Return the tasks, at least one.

    Raises:
        HistoryError: If no task has begun.
    """
    tasks = history.tasks()
    if not tasks:
        raise HistoryError(
            f"{history.path} has no task yet: its tracker has only just begun; try again later"
        )
    return tasks


def find_task(history: TopologyHistory, text: str) -> TaskRecord:
    """Return a task by its name or, if none has that name, by its index; -1 is the last.

    Raises:
        HistoryError: If the task does not exist.
    """
    tasks = all_tasks(history)
    names = [task.name for task in tasks]
    if text in names:
        return tasks[names.index(text)]
    try:
        return tasks[int(text)]
    except (ValueError, IndexError):
        counts = f"0 to {len(tasks) - 1}" if len(tasks) > 1 else "0 only"
        raise HistoryError(
            f"{history.path} has no task {text!r}; {suggest(text, names)} (or a number, {counts})"
        ) from None


def find_group(history: TopologyHistory, text: str) -> GroupRecord:
    """Return a group by its name.

    Raises:
        HistoryError: If the group does not exist.
    """
    groups = history.groups()
    for group in groups:
        if group.name == text:
            return group
    names = [group.name for group in groups]
    raise HistoryError(f"{history.path} has no group {text!r}; {suggest(text, names)}")
