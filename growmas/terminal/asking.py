"""What a person asks a history for, found or refused with the nearest valid name."""

from difflib import SequenceMatcher

from growmas.errors import HistoryError
from growmas.history import TopologyHistory
from growmas.history.records import GroupRecord, TaskRecord


def all_tasks(history: TopologyHistory) -> tuple[TaskRecord, ...]:
    """The tasks, at least one.

    Raises:
        HistoryError: If none has begun.
    """
    tasks = history.tasks()
    if not tasks:
        raise HistoryError(
            f"{history.path} has no task yet: its tracker has only just begun; look again later"
        )
    return tasks


def find_task(history: TopologyHistory, text: str) -> TaskRecord:
    """A task by its name or, if none has that name, by its index; -1 is the last.

    Raises:
        HistoryError: If there is no such task.
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
            f"{history.path} has no task {text!r}; {_nearest(text, names)} (or a number, {counts})"
        ) from None


def find_group(history: TopologyHistory, text: str) -> GroupRecord:
    """A group by its name.

    Raises:
        HistoryError: If there is no such group.
    """
    groups = history.groups()
    for group in groups:
        if group.name == text:
            return group
    names = [group.name for group in groups]
    raise HistoryError(f"{history.path} has no group {text!r}; {_nearest(text, names)}")


def _nearest(text: str, names: list[str]) -> str:
    if not names:
        return "it has none"
    near = max(names, key=lambda name: SequenceMatcher(None, text, name).ratio())
    listed = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:11])}, …"
    return f"did you mean {near!r}? It has: {listed}"
