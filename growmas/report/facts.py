"""What a report tells of a run, read from its history and, where it has them, its metrics."""

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

MAPPED = 6
"""So many groups, those that changed most, have their units drawn."""
MAPPED_OF_MANY_TASKS = 4


@dataclass(frozen=True)
class GroupFacts:
    """A group of units over T tasks; tuples have one entry per task.

    Attributes:
        name: Its name.
        kind: What its units are.
        ever: How many units ever lived.
        turnover: Units before, born, died and after.
        fresh: Units born during the task and alive at its end.
        importance: In a few numbers; None where it was not measured.
        cohorts: Units by the task of their birth, and how many of them live.
        links: (birth task of a unit, birth task of the one it was split from or took the place
            of, "split" or "replaced") -> number of units.
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
        """Births and deaths, all tasks together."""
        return sum(each.born + each.died for each in self.turnover)


@dataclass(frozen=True)
class RunFacts:
    """A run over T tasks; tuples have one entry per task.

    Attributes:
        name: What the report calls it.
        result: What its metrics.json says; None for a history alone.
        tasks: Names.
        unfinished: The last task if it has no snapshot yet, else None.
        groups: In the structure's order.
        total: Units before, born, died and after, summed over groups.
        sizes: Units, parameters and FLOPs; None where they were not written.
        accuracy: R[i][j], accuracy on task j after task i; None where it was not measured.
        mean_accuracy: After each task, over the tasks so far.
        events: Changes of the structure, and what was noted, in order.
        layers: As the last task left them.
        maps: The units of the groups that changed most, drawn as `UnitMap` says.
    """

    name: str
    result: RunResult | None
    tasks: tuple[str, ...]
    unfinished: str | None
    groups: tuple[GroupFacts, ...]
    total: tuple[Turnover, ...]
    sizes: tuple[SizeRecord | None, ...]
    accuracy: tuple[tuple[float | None, ...], ...]
    mean_accuracy: tuple[float | None, ...]
    events: tuple[EventRecord, ...]
    layers: tuple[LayerRecord, ...]
    maps: Mapping[str, UnitMap]

    @property
    def matrix(self) -> tuple[tuple[float, ...], ...]:
        """The rows of `accuracy` up to the first that lacks a task learnt by then."""
        rows: list[tuple[float, ...]] = []
        for i, row in enumerate(self.accuracy):
            known = tuple(value for value in row[: i + 1] if value is not None)
            if len(known) <= i:
                break
            rows.append(known)
        return tuple(rows)

    @property
    def average_accuracy(self) -> float | None:
        """ACC over the tasks learnt; None if it cannot be told."""
        return average_accuracy(self.matrix) if self.matrix else None

    @property
    def backward_transfer(self) -> float | None:
        """BWT over the tasks learnt; None if it cannot be told."""
        return backward_transfer(self.matrix) if self.matrix else None

    @property
    def forgetting(self) -> float | None:
        """Forgetting over the tasks learnt; None if it cannot be told."""
        return forgetting(self.matrix) if self.matrix else None

    @property
    def by_change(self) -> tuple[GroupFacts, ...]:
        """Groups, the one that changed most first."""
        return tuple(sorted(self.groups, key=lambda group: (-group.changed, -group.ever)))


def read_facts(
    history: TopologyHistory, name: str, *, results: RunResult | None = None
) -> RunFacts:
    """Read a run, from one state of its file.

    Args:
        history: Its history; it may still be written.
        name: What the report calls it.
        results: What its metrics.json holds, if it has one.

    Raises:
        HistoryError: If the history has no task yet.
    """
    with history.frozen():
        tasks = history.tasks()
        if not tasks:
            raise HistoryError(
                f"{history.path} has no task yet: its tracker has only just begun; look again later"
            )
        names = tuple(task.name for task in tasks)
        groups = _groups(history, names)
        accuracy, metrics, sizes = history.accuracy(), history.all_metrics(), history.sizes()
        changed = sorted(groups, key=lambda group: (-group.changed, -group.ever))[
            : MAPPED if len(names) <= 40 else MAPPED_OF_MANY_TASKS
        ]
        return RunFacts(
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
        )


def _groups(history: TopologyHistory, tasks: Sequence[str]) -> tuple[GroupFacts, ...]:
    turnover, importance = history.turnover(), history.importance_summary()
    found = []
    for group in history.groups():
        cohorts = history.survival(group.name)
        fresh = {cohort.task: cohort.alive[cohort.task] for cohort in cohorts if not cohort.initial}
        measured = importance.get(group.name, {})
        found.append(
            GroupFacts(
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
    """How many units of which birth task come from units of which birth task, and how."""
    lives = {line.unit: line for line in history.lifelines(group)}
    places = {task: i for i, task in enumerate(tasks)}
    links: dict[tuple[int, int, str], int] = {}
    for line in lives.values():
        for source, how in ((line.parent, "split"), (line.replaced, "replaced")):
            if source is not None:
                key = (places[line.birth_task], places[lives[source].birth_task], how)
                links[key] = links.get(key, 0) + 1
    return links


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
