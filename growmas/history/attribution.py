"""The task that an edit or a snapshot belongs to.

If the structure names its tasks, it is the structure's current task. If not, the snapshots name
the tasks, and edits are written to an unnamed last task until its snapshot comes. Call all
functions inside `store.transaction()`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from growmas.errors import HistoryError
from growmas.history.store import Store

if TYPE_CHECKING:
    from growmas.history.external_model import ExternalModel
    from growmas.structure import Edit, Structure

    Followed: TypeAlias = Structure | ExternalModel


def write_names(store: Store, names: Sequence[str]) -> None:
    """Add the tasks that the structure has begun and name those that had no name.

    Raises:
        HistoryError: If two tasks share a name, or a task has another name in the history.
    """
    known = store.tasks()
    for index, name in enumerate(names):
        if name in names[:index]:
            raise HistoryError(f"two tasks have the name {name!r}: give each task its own name")
        if index >= len(known):
            store.add_event(store.add_task(name), "begin", "")
            continue
        written, finished = known[index]
        if written != name and finished:
            raise HistoryError(
                f"task {index} is {written!r} in the history and {name!r} in the structure: "
                "name tasks with begin_task or with snapshot, not both"
            )
        if written != name:
            store.name_task(index, name)
        if not finished and not store.has_begun(index):
            store.add_event(index, "begin", "")


def write_begun(store: Store, structure: "Followed") -> None:
    """Write that a task begins, or that an earlier one is resumed: an event of the newest task.

    What is written about a task that has ended stays: the widths after it are not those of now.
    """
    write_names(store, structure.tasks)
    name = getattr(structure, "resumed", None)
    if name is not None:
        cause = {"task": name}
        store.add_event(structure.task, "resume", f"task {name!r} is learnt again", cause)


def task_of_edit(store: Store, structure: "Followed", edit: "Edit") -> int:
    """Return the index of the task of an edit; add a task if the last one has ended."""
    task = current_task(store, structure)
    return edit.task if structure.tasks else task


def current_task(store: Store, structure: "Followed") -> int:
    """Return the index of the current task; add a task if the last one has ended."""
    if structure.tasks:
        write_names(store, structure.tasks)
        return structure.task
    tasks = store.tasks()
    return store.add_task() if tasks[-1][1] else len(tasks) - 1


def task_of_snapshot(store: Store, structure: "Followed", name: str | None) -> int:
    """Return the index of the task that a snapshot called `name` describes.

    Raises:
        HistoryError: If the task has no name, or is not the current one.
    """
    if structure.tasks:
        current = structure.tasks[structure.task]
        if name not in (None, current, getattr(structure, "resumed", None)):
            raise HistoryError(
                f"a snapshot of task {name!r} while the structure is in task {current!r}: "
                f"leave the name out, or call structure.begin_task({name!r}) first"
            )
        write_names(store, structure.tasks)
        return structure.task
    if name is None:
        raise HistoryError(
            "this snapshot has no task: pass its name, snapshot(task='…'), or name tasks with "
            "structure.begin_task(name)"
        )
    return _task_named_here(store, name)


def _task_named_here(store: Store, name: str) -> int:
    """Return the index of the task `name`, which is the last one or a new one."""
    tasks = store.tasks()
    names = [known for known, _ in tasks]
    last, finished = len(tasks) - 1, tasks[-1][1]
    if name not in names:
        if finished:
            return store.add_task(name)
        store.name_task(last, name)
        return last
    known = names.index(name)
    if known == last - 1 and not finished:
        store.merge_into_previous(last)
    elif known != last:
        raise HistoryError(
            f"task {name!r} has ended, task {names[-1]!r} came after it: give this snapshot a name "
            f"of its own, for example '{name} again'"
        )
    return known
