"""The summary of a run for a report, read from its history and its metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from growmas.errors import HistoryError
from growmas.history import TopologyHistory
from growmas.history.records import (
    Cohort,
    EventRecord,
    GroupImportance,
    LayerRecord,
    SizeRecord,
    Turnover,
)
from growmas.metrics import average_accuracy, backward_transfer, forgetting
from growmas.report.unit_map import UnitMap, map_units
from growmas.runs import RunResult
from growmas.runs.curves import CurvePoint, points_of

MAPPED = 6
"""Number of groups whose units are drawn: those that changed most."""
MAPPED_OF_MANY_TASKS = 4


@dataclass(frozen=True)
class GroupSummary:
    """A group of units over T tasks; tuples have one entry per task.

    Attributes:
        name: Name of the group.
        kind: Kind of its units, such as "neurons".
        ever: Number of units that ever lived.
        turnover: Units before, born, died and after.
        fresh: Number of units born during the task and alive at its end.
        importance: Importance summed up; None where it was not measured.
        cohorts: Units by the task of their birth, and how many of them live.
        links: (birth task of a unit, birth task of the unit that it was split from or replaced,
            "split" or "replaced") -> number of units.
    """

    name: str
    kind: str
    ever: int
    turnover: tuple[Turnover, ...]
    fresh: tuple[int, ...]
    importance: tuple[GroupImportance | None, ...]
    cohorts: tuple[Cohort, ...]
    links: Mapping[tuple[int, int, str], int]

    @property
    def changed(self) -> int:
        """Number of births and deaths in all tasks."""
        return sum(each.born + each.died for each in self.turnover)


@dataclass(frozen=True)
class RunSummary:
    """A run over T tasks; tuples have one entry per task.

    Attributes:
        name: Name of the run in the report.
        result: Contents of its metrics.json; None for a history alone.
        tasks: Names of the tasks.
        unfinished: Name of the last task if it has no snapshot yet, else None.
        groups: Groups in the structure's order.
        total: Units before, born, died and after, summed over groups.
        sizes: Units, parameters and FLOPs; None where they were not written.
        accuracy: R[i][j], accuracy on task j after task i; None where it was not measured.
        mean_accuracy: Mean accuracy over the tasks so far, after each task.
        events: Changes of the structure and notes, in order.
        layers: Layers at the end of the last task.
        maps: Group name -> map of its units, for the groups that changed most.
        curves: Numbers of training by epoch, or by step; empty if none were written.
    """

    name: str
    result: RunResult | None
    tasks: tuple[str, ...]
    unfinished: str | None
    groups: tuple[GroupSummary, ...]
    total: tuple[Turnover, ...]
    sizes: tuple[SizeRecord | None, ...]
    accuracy: tuple[tuple[float | None, ...], ...]
    mean_accuracy: tuple[float | None, ...]
    events: tuple[EventRecord, ...]
    layers: tuple[LayerRecord, ...]
    maps: Mapping[str, UnitMap]
    curves: tuple[CurvePoint, ...] = ()

    @property
    def matrix(self) -> tuple[tuple[float, ...], ...]:
        """Rows of `accuracy` up to the first that lacks a task learnt so far."""
        rows: list[tuple[float, ...]] = []
        for i, row in enumerate(self.accuracy):
            known = tuple(value for value in row[: i + 1] if value is not None)
            if len(known) <= i:
                break
            rows.append(known)
        return tuple(rows)

    @property
    def average_accuracy(self) -> float | None:
        """ACC over the tasks learnt; None if it was not measured."""
        return average_accuracy(self.matrix) if self.matrix else None

    @property
    def backward_transfer(self) -> float | None:
        """BWT over the tasks learnt; None if it was not measured."""
        return backward_transfer(self.matrix) if self.matrix else None

    @property
    def forgetting(self) -> float | None:
        """Forgetting over the tasks learnt; None if it was not measured."""
        return forgetting(self.matrix) if self.matrix else None

    @property
    def by_change(self) -> tuple[GroupSummary, ...]:
        """Groups, those that changed most first."""
        return tuple(sorted(self.groups, key=lambda group: (-group.changed, -group.ever)))


def read_summary(
    history: TopologyHistory, name: str, *, results: RunResult | None = None
) -> RunSummary:
    """Read a run, from one state of its file.

    Args:
        history: History of the run; a tracker may still write it.
        name: Name of the run in the report.
        results: Contents of its metrics.json, if it has one.

    Raises:
        HistoryError: If the history has no task yet.
    """
    if not isinstance(history, TopologyHistory):
        raise HistoryError(
            f"expected an open TopologyHistory, got {type(history).__name__}: open the file of a "
            "run with TopologyHistory(path)"
        )
    with history.frozen():
        tasks = history.tasks()
        if not tasks:
            raise HistoryError(
                f"{history.path} has no task yet: its tracker has only just begun; try again later"
            )
        names = tuple(task.name for task in tasks)
        groups = _groups(history, names)
        accuracy, metrics, sizes = history.accuracy(), history.all_metrics(), history.sizes()
        changed = sorted(groups, key=lambda group: (-group.changed, -group.ever))[
            : MAPPED if len(names) <= 40 else MAPPED_OF_MANY_TASKS
        ]
        return RunSummary(
            name=name,
            result=results,
            tasks=names,
            unfinished=names[-1] if tasks[-1].finished is None else None,
            groups=groups,
            total=tuple(
                reduce(add, (group.turnover[i] for group in groups), Turnover(0, 0, 0, 0))
                for i in range(len(names))
            ),
            sizes=tuple(sizes.get(name) for name in names),
            accuracy=accuracy,
            mean_accuracy=tuple(
                metrics.get(name, {}).get("accuracy", _mean(accuracy[i][: i + 1]))
                for i, name in enumerate(names)
            ),
            events=tuple(e for e in history.log() if e.kind not in ("begin", "snapshot")),
            layers=history.layers(),
            maps={group.name: map_units(history, group.name, names) for group in changed},
            curves=points_of(history, results),
        )


def _groups(history: TopologyHistory, tasks: Sequence[str]) -> tuple[GroupSummary, ...]:
    turnover, importance = history.turnover(), history.importance_summary()
    found = []
    for group in history.groups():
        cohorts = history.survival(group.name)
        fresh = {cohort.task: cohort.alive[cohort.task] for cohort in cohorts if not cohort.initial}
        measured = importance.get(group.name, {})
        found.append(
            GroupSummary(
                name=group.name,
                kind=group.kind,
                ever=group.ever,
                turnover=tuple(turnover[group.name].values()),
                fresh=tuple(fresh.get(task, 0) for task in tasks),
                importance=tuple(measured.get(task) for task in tasks),
                cohorts=cohorts,
                links=_links(history, group.name, tasks),
            )
        )
    return tuple(found)


def _links(
    history: TopologyHistory, group: str, tasks: Sequence[str]
) -> dict[tuple[int, int, str], int]:
    """Count units by their birth task, the birth task of their origin, and how they came of it."""
    lives = {line.unit: line for line in history.lifelines(group)}
    places = {task: i for i, task in enumerate(tasks)}
    links: dict[tuple[int, int, str], int] = {}
    for line in lives.values():
        for origin, how in ((line.parent, "split"), (line.replaced, "replaced")):
            if origin is not None:
                key = (places[line.birth_task], places[lives[origin].birth_task], how)
                links[key] = links.get(key, 0) + 1
    return links


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
