"""The tracker that records a structure: it writes every edit and every snapshot."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from growmas import __version__
from growmas.closeable import Closeable
from growmas.errors import HistoryError
from growmas.history.attribution import (
    current_task,
    task_of_edit,
    task_of_snapshot,
    write_begun,
    write_names,
)
from growmas.history.scalars import ScalarWriting
from growmas.history.schema import BUSY_TIMEOUT
from growmas.history.store import Store, Topology
from growmas.history.tables import FLOPS_OF, ONE_SAMPLE
from growmas.history.unit_importance import importance_of_units
from growmas.history.validation import check_frozen, finite_metrics
from growmas.paths import as_path

if TYPE_CHECKING:
    from torch import Tensor, nn

    from growmas.history.external_model import ExternalChange, ExternalModel
    from growmas.structure import Edit, Structure
    from growmas.structure.analysis.tracing import StructureForward

_OWN_KINDS = ("edit", "external", "begin", "resume", "snapshot")
_NONE: Mapping[str, Mapping[int, int]] = {}


class TopologyTracker(ScalarWriting, Closeable):
    """A recorder of the life of every unit of a structure, in an SQLite file.

    The units that the structure has now are written at once; every later edit is written
    automatically, in one transaction, when the structure commits it. `snapshot` adds what is known
    at the end of a task. The file can be read at any moment, also if the process was killed.

    Tasks are named in one of two ways. If the structure's `begin_task` is used, edits and
    snapshots belong to the structure's current task. If it is never used, name the tasks at their
    snapshots: an edit then belongs to the task whose snapshot comes next, "task N" until then.

    Use it as a context manager, or call `close`.

    Args:
        structure: Structure to follow.
        path: The file to write; folders above it are created.
        overwrite: Replace an existing history.
        meta: Facts to keep with the file, such as the id of a run.
        timeout: Seconds to wait while another process holds the file.

    Raises:
        HistoryError: `path` exists without `overwrite`, or is not a history.
    """

    _unsubscribe: Callable[[], None] | None = None

    def __init__(
        self,
        structure: "Structure | ExternalModel",
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        meta: Mapping[str, str] | None = None,
        timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self._structure, self._meta = structure, dict(meta or {})
        self._store = Store.create(
            as_path(path, HistoryError, "a topology history"), overwrite=overwrite, timeout=timeout
        )
        self._start(self._write_first_units)

    @classmethod
    def attach(
        cls,
        model: "nn.Module",
        path: str | os.PathLike[str],
        *,
        example_inputs: Any = None,
        forward: "StructureForward | None" = None,
        overwrite: bool = False,
    ) -> Self:
        """Follow a model that other code prunes or grows in place, without a `Structure`.

        Every snapshot compares the shapes of the layers with those of the snapshot before and
        writes the changes that it finds as an event of kind "external". The units that remain are
        recognised by their biases or the gains of their norms, if the model was not trained in
        between. Otherwise only their number is known, and the last units count as removed.

        Args:
            model: The model, changed in place by other code.
            path: The file to write; folders above it are created.
            example_inputs: Inputs as for `Structure`; with them the history also has data flow,
                FLOPs and groups of layers that share their units. Without them every layer is a
                group.
            forward: Function (model, inputs) -> output, as for `Structure`.
            overwrite: Replace an existing history.

        Raises:
            HistoryError: If `path` exists and `overwrite` is False, or if it is not a history.
            SurgeryError: If the model cannot be analysed on the example inputs.
        """
        from growmas.history.external_model import ExternalModel  # loads torch when needed

        return cls(ExternalModel(model, example_inputs, forward), path, overwrite=overwrite)

    @classmethod
    def resume(
        cls, structure: "Structure", path: str | os.PathLike[str], *, rewind: bool | int = False
    ) -> Self:
        """Continue a history with a structure in the state in which the history ended.

        Args:
            structure: The structure, restored from a checkpoint.
            path: The file of an earlier tracker.
            rewind: True first deletes what was written about tasks after the structure's current
                one. Use it if the checkpoint was written at the end of a task and the process was
                killed in a later task. A number N, the `last_event` at the time of the checkpoint,
                also deletes what was written about the current task after event N. Use it if the
                checkpoint was written in the middle of a task. Both need tasks named with
                `begin_task`.

        Raises:
            HistoryError: If `path` is not a history, if its tasks or living units are not those
                of the structure, or if it has fewer than N events; the file is then unchanged.
        """
        tracker = cls.__new__(cls)
        tracker._structure = structure
        tracker._store = Store.open(as_path(path, HistoryError, "a topology history"))
        tracker._start(lambda: tracker._continue(rewind=rewind))
        return tracker

    def snapshot(
        self,
        task: str | None = None,
        *,
        metrics: Mapping[str, float] | None = None,
        omega: "Mapping[str, Tensor] | None" = None,
        frozen: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        """Write layers, data flow, metrics and the importance of units at the end of a task.

        A second snapshot of the same task replaces the first, one of a resumed task that of the
        newest. Metrics, importance or frozen units that it is not given stay as they were.

        Args:
            task: Name of the task; it may be left out if the structure's `begin_task` named it.
            metrics: Finite numbers by name. Write the accuracy on task NAME as "accuracy/NAME"
                and the mean over tasks as "accuracy".
            omega: Importance by parameter name, of the parameters' shapes. The history has
                `structure.saliency(omega)` of each unit and the shares of the layers that read
                it, from `structure.consumers(omega)`.
            frozen: Ids of the units, by group, whose weights are frozen from now until a later
                snapshot gives others.

        Raises:
            HistoryError: If the task is not the current one or has no name, if a metric or an
                importance is not finite, or if a frozen unit is not alive. Nothing is written then.
        """
        numbers = None if metrics is None else finite_metrics(metrics)
        self._hear()
        with ExitStack() as open_until_written:
            change = open_until_written.enter_context(self._rescanned())
            open_until_written.enter_context(self._store.transaction())
            index = task_of_snapshot(self._store, self._structure, task)
            if change:
                self._write_external(index, change)
            topology = self._write_topology(index, count_flops=True)
            if numbers is not None:
                self._store.write_metrics(index, numbers)
            if omega is not None:
                self._store.write_importance(index, *importance_of_units(self._structure, omega))
            if frozen is not None:
                check_frozen(self._structure.groups, frozen)
                self._store.write_frozen(index, frozen)
            self._store.add_event(index, "snapshot", "", _summary(topology, numbers or {}))
            self._store.finish_task(index)

    def note(self, kind: str, reason: str = "", *, cause: Mapping[str, Any] | None = None) -> None:
        """Write an event that changed no unit, such as a plateau or a shift.

        Args:
            kind: Kind of event, a word such as "plateau" or "shift".
            reason: A few words, for people.
            cause: Reason for programs: JSON values by name, such as statistic and threshold.

        Raises:
            HistoryError: If `kind` is one that the tracker writes itself, or `cause` is not JSON.
        """
        if not kind or kind in _OWN_KINDS:
            own = ", ".join(map(repr, _OWN_KINDS))
            raise HistoryError(f"kind={kind!r}: the tracker writes {own} itself; use another word")
        try:
            json.dumps(cause, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise HistoryError(f"cause: expected JSON values by name ({error})") from error
        self._hear()
        with self._store.transaction():
            self._store.add_event(current_task(self._store, self._structure), kind, reason, cause)

    @property
    def last_event(self) -> int:
        """Number of the last event written; 0 before the first. `resume` can rewind to it."""
        self._hear()
        return self._store.last_event()

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context in which everything is written when it ends, or nothing if it raises."""
        return self._store.transaction()

    @property
    def meta(self) -> Mapping[str, str]:
        """Facts about the file: the version of growmas, and those given when it was made."""
        return self._store.meta()

    def close(self) -> None:
        """Stop following the structure and close the file; further calls do nothing."""
        stop, self._unsubscribe = self._unsubscribe, None
        if stop is not None:
            self._hear()
            stop()
            self._store.close()

    def _hear(self) -> None:
        """Hear of renewed units, which a structure tells in batches."""
        getattr(self._structure, "tell", lambda: None)()

    def _start(self, first_write: Callable[[], None]) -> None:
        try:
            with self._store.transaction():
                first_write()
        except BaseException:
            self._store.close()
            raise
        self._unsubscribe = self._structure.subscribe(self._record, begun=self._begun)

    def _write_first_units(self) -> None:
        self._store.set_meta({"growmas": __version__, FLOPS_OF: ONE_SAMPLE, **self._meta})
        write_names(self._store, self._structure.tasks)
        task = self._structure.task if self._structure.tasks else self._store.add_task()
        groups = self._structure.groups
        self._store.add_groups({name: group.kind for name, group in groups.items()})
        for name, group in groups.items():
            self._store.add_units(name, dict(zip(group.unit_ids, group.births, strict=True)))
        self._write_topology(task)

    def _continue(self, *, rewind: bool | int) -> None:
        if rewind is not False:
            self._rewind(None if rewind is True else rewind)
        elif 0 < len(self._structure.tasks) < len(self._store.tasks()):
            raise HistoryError(
                f"the history goes on to task {self._store.tasks()[-1][0]!r}, after the "
                f"structure's task {self._structure.tasks[-1]!r}: pass rewind=True to delete that "
                "part of it"
            )
        write_names(self._store, self._structure.tasks)
        self._store.drop_other_flops()
        self._check_living_units()

    def _rewind(self, event: int | None) -> None:
        task, last = self._structure.task, self._store.last_event()
        if not self._structure.tasks:
            raise HistoryError("rewind needs tasks named with structure.begin_task(name)")
        if event is not None and not 0 <= event <= last:
            raise HistoryError(
                f"rewind={event}, and the history has the events 1 to {last}: restore the "
                "checkpoint that belongs to this history"
            )
        self._store.delete_after(task)
        if event is not None and event < last:
            self._store.delete_events_after(task, event)
            self._write_topology(task, count_flops=True)

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
                "belongs to this history, or pass rewind=True if it is of an earlier task:\n  "
                + "\n  ".join(wrong)
            )

    def _begun(self, name: str) -> None:
        with self._store.transaction():
            write_begun(self._store, self._structure)
            self._write_topology(self._structure.task)

    @contextmanager
    def _record(self, edit: "Edit") -> Iterator[None]:
        """Write an edit; commit after all other listeners have accepted it."""
        with self._store.transaction():
            task = task_of_edit(self._store, self._structure, edit)
            event = self._store.add_event(task, "edit", edit.reason, edit.cause)
            self._write_units(task, event, edit.born, edit.died, edit.parents, edit.replaced_units)
            if edit.changes:  # else units were renewed in place
                self._write_topology(task)
            yield

    @contextmanager
    def _rescanned(self) -> Iterator["ExternalChange | None"]:
        """Yield what changed in an external model since the last snapshot; None for others."""
        rescanned = getattr(self._structure, "rescanned", None)
        with nullcontext() if rescanned is None else rescanned() as change:
            yield change

    def _write_external(self, task: int, change: "ExternalChange") -> None:
        born, died, known = change.born, change.died, change.recognised
        counts = {
            name: {
                "born": len(born.get(name, ())),
                "died": len(died.get(name, ())),
                "told_by": "values" if name in known else "shapes",
            }
            for name in dict.fromkeys([*died, *born])
        }
        reason = f"found at a snapshot: {', '.join(map(repr, counts))} changed"
        event = self._store.add_event(task, "external", reason, {"groups": counts})
        self._write_units(task, event, born, died)

    def _write_units(
        self,
        task: int,
        event: int,
        born: Mapping[str, Sequence[int]],
        died: Mapping[str, Sequence[int]],
        parents: Mapping[str, Mapping[int, int]] = _NONE,
        replaced: Mapping[str, Mapping[int, int]] = _NONE,
    ) -> None:
        """Write the births and deaths of an event."""
        self._store.add_groups({name: g.kind for name, g in self._structure.groups.items()})
        for name, units in died.items():
            self._store.end_units(name, units, task=task, event=event)
        for name, units in born.items():
            links = {"parents": parents.get(name), "replaced": replaced.get(name)}
            self._store.add_units(name, dict.fromkeys(units, task), event=event, **links)

    def _write_topology(self, task: int, *, count_flops: bool = False) -> Topology:
        found = self._structure.architecture(count_flops=count_flops)
        topology = Topology(
            layers=[
                (la.name, la.kind, la.group, la.in_width, la.out_width, la.parameters, la.flops)
                for la in found.layers
            ],
            operations=[(op.name, op.kind, op.width) for op in found.operations],
            edges=found.edges,
            units=sum(group.width for group in self._structure.groups.values()),
            parameters=found.parameters,
            flops=found.flops,
        )
        self._store.write_topology(task, topology)
        return topology


def _summary(topology: Topology, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return the few numbers that the event of a snapshot holds."""
    found = {"units": topology.units, "parameters": topology.parameters}
    mean = {"accuracy": metrics["accuracy"]} if "accuracy" in metrics else {}
    return {**found, **mean}
