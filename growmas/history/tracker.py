"""The bridge from a live structure to its history: follows every edit, writes every snapshot."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from growmas import __version__
from growmas.errors import HistoryError
from growmas.history.attribution import task_of_edit, task_of_snapshot, write_names
from growmas.history.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from growmas.structure import Edit, Structure


class TopologyTracker:
    """Writes what becomes of every unit of a structure to an SQLite file, as it happens.

    The units that the structure has now are written at once; every later edit is written by
    itself, in one transaction, when the structure commits it. `snapshot` adds what is known at
    the end of a task. The file can be read at any moment with `TopologyHistory`, and a killed
    process leaves it readable.

    Tasks are named in one of two ways. If the structure's `begin_task` is used, edits and
    snapshots belong to the structure's current task. If it never is, name the tasks at their
    snapshots: an edit then belongs to the task whose snapshot comes next, which is called
    "task N" until then.

    Use it as a context manager, or call `close`.

    Args:
        structure: The structure to follow.
        path: The file to write; folders above it are made.
        overwrite: Replace an existing history.

    Raises:
        HistoryError: If `path` exists and `overwrite` is False, or it is not a history.
    """

    _unsubscribe: Callable[[], None] | None = None

    def __init__(
        self, structure: "Structure", path: str | os.PathLike[str], *, overwrite: bool = False
    ) -> None:
        self._structure = structure
        self._store = Store.create(Path(path), overwrite=overwrite)
        self._start(self._write_first_units)

    @classmethod
    def resume(
        cls, structure: "Structure", path: str | os.PathLike[str], *, rewind: bool = False
    ) -> Self:
        """Continue an existing history with a structure that is where the history stopped.

        Args:
            structure: The structure, restored from a checkpoint.
            path: The file of an earlier tracker.
            rewind: Forget what the file says about tasks after the structure's current one
                first: the way on when the checkpoint is of the end of a task and the process
                was killed in a later one. Needs tasks named with `begin_task`.

        Raises:
            HistoryError: If `path` is not a history, or its tasks or living units are not those
                of the structure; the file is then as it was.
        """
        tracker = cls.__new__(cls)
        tracker._structure = structure
        tracker._store = Store.open(Path(path))
        tracker._start(lambda: tracker._take_up(rewind=rewind))
        return tracker

    def snapshot(
        self,
        task: str | None = None,
        *,
        metrics: Mapping[str, float] | None = None,
        omega: "Mapping[str, Tensor] | None" = None,
    ) -> None:
        """Write layers, edges, metrics and the importance of units at the end of a task.

        A second snapshot of the same task replaces the first; metrics or importance that it does
        not bring stay, so that whoever measures them may write them.

        Args:
            task: The task's name. May be left out if the structure's `begin_task` named it.
            metrics: Finite numbers by name. Write the accuracy on task NAME as "accuracy/NAME"
                and the mean over tasks as "accuracy".
            omega: Importance by parameter name, of the parameters' shapes; each unit's share is
                `structure.saliency(omega)`.

        Raises:
            HistoryError: If the task is not the current one or has no name, or if a metric or an
                importance is not finite. Nothing is written then.
        """
        importance = None if omega is None else self._unit_importance(omega)
        numbers = None if metrics is None else _finite_metrics(metrics)
        with self._store.transaction():
            index = task_of_snapshot(self._store, self._structure, task)
            self._write_topology(index)
            if numbers is not None:
                self._store.write_metrics(index, numbers)
            if importance is not None:
                self._store.write_importance(index, importance)
            self._store.finish_task(index)

    def close(self) -> None:
        """Stop following the structure and close the file; further calls do nothing."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, first_write: Callable[[], None]) -> None:
        try:
            with self._store.transaction():
                first_write()
        except BaseException:
            self._store.close()
            raise
        self._unsubscribe = self._structure.subscribe(self._record)

    def _write_first_units(self) -> None:
        self._store.set_meta({"growmas": __version__})
        write_names(self._store, self._structure.tasks)
        task = self._structure.task if self._structure.tasks else self._store.add_task()
        groups = self._structure.groups
        self._store.add_groups({name: group.kind for name, group in groups.items()})
        for name, group in groups.items():
            self._store.add_units(name, dict(zip(group.unit_ids, group.births, strict=True)))
        self._write_topology(task)

    def _take_up(self, *, rewind: bool) -> None:
        if rewind:
            if not self._structure.tasks:
                raise HistoryError("rewind=True needs tasks named with structure.begin_task(name)")
            self._store.forget_after(self._structure.task)
        elif 0 < len(self._structure.tasks) < len(self._store.tasks()):
            raise HistoryError(
                f"the history goes on to task {self._store.tasks()[-1][0]!r}, after the "
                f"structure's {self._structure.tasks[-1]!r}: pass rewind=True to forget that part"
            )
        write_names(self._store, self._structure.tasks)
        self._check_living_units()

    def _check_living_units(self) -> None:
        ours = {name: frozenset(group.unit_ids) for name, group in self._structure.groups.items()}
        theirs = self._store.living()
        wrong = [
            f"{name}: {len(theirs.get(name, ()))} living in the history, "
            f"{len(ours.get(name, ()))} in the structure, "
            f"{len(theirs.get(name, frozenset()) & ours.get(name, frozenset()))} of them the same"
            for name in sorted(ours.keys() | theirs.keys())
            if ours.get(name) != theirs.get(name)
        ]
        if wrong:
            raise HistoryError(
                "the history's living units are not the structure's; restore the checkpoint that "
                "belongs to it, or pass rewind=True if that is of an earlier task:\n  "
                + "\n  ".join(wrong)
            )

    @contextmanager
    def _record(self, edit: "Edit") -> Iterator[None]:
        """Write an edit; it counts once every other listener has agreed."""
        groups = self._structure.groups
        with self._store.transaction():
            task = task_of_edit(self._store, self._structure, edit)
            event = self._store.add_event(task, edit.reason)
            self._store.add_groups({name: group.kind for name, group in groups.items()})
            for name, units in edit.died.items():
                self._store.end_units(name, units, task=task, event=event)
            for name, units in edit.born.items():
                parents = edit.parents.get(name)
                births = dict.fromkeys(units, task)
                self._store.add_units(name, births, event=event, parents=parents)
            self._write_topology(task)
            yield

    def _write_topology(self, task: int) -> None:
        layers = (
            (layer.name, layer.kind, layer.group, layer.in_width, layer.out_width, layer.parameters)
            for layer in self._structure.layers()
        )
        self._store.write_topology(task, layers, self._structure.edges())

    def _unit_importance(self, omega: "Mapping[str, Tensor]") -> dict[str, dict[int, float]]:
        values = {
            name: dict(zip(self._structure.groups[name].unit_ids, saliency.tolist(), strict=True))
            for name, saliency in self._structure.saliency(omega).items()
        }
        for name, by_unit in values.items():
            bad = [unit for unit, value in by_unit.items() if not math.isfinite(value)]
            if bad:
                raise HistoryError(
                    f"the importance of {len(bad)} units of {name!r} is not finite "
                    f"(unit {bad[0]}: {by_unit[bad[0]]}): measure omega again"
                )
        return values


def _finite_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in metrics.items()}
    bad = [f"{name} = {value}" for name, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise HistoryError(f"metrics must be finite, leave these out: {', '.join(bad)}")
    return numbers
