"""The board of a run: cells of groups × tasks in several measures."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

from growmas.history import TopologyHistory
from growmas.history.records import GroupImportance, Turnover
from growmas.rounding import short


@dataclass(frozen=True)
class Board:
    """A run over T tasks; tuples have one entry per task.

    Attributes:
        tasks: Names of the tasks; empty if no task has begun.
        live: True if the last task has no snapshot yet.
        turnover: Units before, born, died and after, per group.
        total: Turnover summed over groups.
        importance: Importance summed up, per group; None where it was not measured.
        parameters: Parameter count of the whole model; None where it was not written.
        accuracy: Mean accuracy over the tasks so far; None where it was not measured.
    """

    tasks: tuple[str, ...]
    live: bool
    turnover: Mapping[str, tuple[Turnover, ...]]
    total: tuple[Turnover, ...]
    importance: Mapping[str, tuple[GroupImportance | None, ...]]
    parameters: tuple[int | None, ...]
    accuracy: tuple[float | None, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the structure's order."""
        return tuple(self.turnover)

    @cached_property
    def most_changed(self) -> int:
        """Largest number of units born, or pruned, in a group during a task."""
        turnovers = (each for cells in self.turnover.values() for each in cells)
        return max((max(each.born, each.died) for each in turnovers), default=0)

    @cached_property
    def means(self) -> tuple[float, float]:
        """Smallest and largest mean importance of a group, without zeros."""
        cells = (each for cells in self.importance.values() for each in cells)
        known = [each.mean for each in cells if each is not None and each.mean > 0]
        return (min(known), max(known)) if known else (1.0, 1.0)


def read_board(history: TopologyHistory) -> Board:
    """Read a run from one state of its file."""
    with history.frozen():
        tasks = history.tasks()
        names = tuple(task.name for task in tasks)
        turnover = {name: tuple(by.values()) for name, by in history.turnover().items()}
        summary, sizes = history.importance_summary(), history.sizes()
        metrics, matrix = history.all_metrics(), history.accuracy()
    return Board(
        tasks=names,
        live=bool(tasks) and tasks[-1].finished is None,
        turnover=turnover,
        total=tuple(
            reduce(add, (cells[i] for cells in turnover.values()), Turnover(0, 0, 0, 0))
            for i in range(len(names))
        ),
        importance={
            group: tuple(summary.get(group, {}).get(task) for task in names) for group in turnover
        },
        parameters=tuple(sizes[name].parameters if name in sizes else None for name in names),
        accuracy=tuple(
            metrics.get(name, {}).get("accuracy", _mean(matrix[i][: i + 1]))
            for i, name in enumerate(names)
        ),
    )


@dataclass(frozen=True)
class Cell:
    """A cell of the board.

    Attributes:
        text: Text in it.
        share: Strength of its shade, from 0 to 1.
    """

    text: str
    share: float


@dataclass(frozen=True)
class Measure:
    """A quantity shown in the cells of the board.

    Attributes:
        name: Name.
        reading: Text on how to read its cells.
        cell: Function (board, group, index of a task) -> cell.
        number: Function of the same arguments -> number, for exports; None where not measured.
    """

    name: str
    reading: str
    cell: Callable[[Board, str, int], Cell]
    number: Callable[[Board, str, int], float | None]

    def reading_within(self, width: int) -> str:
        """Return as much of `reading` as has room in one line: all, its first half, or words."""
        if len(self.reading) <= width:
            return self.reading
        first = self.reading.partition(";")[0]
        return first if len(first) <= width else f"{first[: width - 1].rpartition(' ')[0]}…"


def _width(board: Board, group: str, task: int) -> Cell:
    widths = [each.width for each in board.turnover[group]]
    return Cell(short(widths[task]), widths[task] / (max(widths) or 1))


def _change(board: Board, group: str, task: int) -> Cell:
    each = board.turnover[group][task]
    parts = [f"+{each.born}" if each.born else "", f"−{each.died}" if each.died else ""]
    return Cell("".join(parts) or "·", max(each.born, each.died) / (board.most_changed or 1))


def _importance(board: Board, group: str, task: int) -> Cell:
    each = board.importance[group][task]
    if each is None:
        return Cell("·", 0.0)
    if each.mean <= 0:
        return Cell("0", 0.0)
    low, high = map(math.log, board.means)
    return Cell(
        short(each.mean, digits=1),
        (math.log(each.mean) - low) / (high - low) if high > low else 1.0,
    )


def _unused(board: Board, group: str, task: int) -> Cell:
    each = board.importance[group][task]
    if each is None or not each.units:
        return Cell("·", 0.0)
    share = each.zeros / each.units
    return Cell(f"{100 * share:.0f}%", share)


def _mean_importance(board: Board, group: str, task: int) -> float | None:
    each = board.importance[group][task]
    return None if each is None else each.mean


def _unused_share(board: Board, group: str, task: int) -> float | None:
    each = board.importance[group][task]
    return each.zeros / each.units if each and each.units else None


MEASURES = (
    Measure(
        "width",
        "units at the end of the task; shaded by the share of the group's largest width",
        _width,
        lambda board, group, task: board.turnover[group][task].width,
    ),
    Measure(
        "born − pruned",
        "units born and pruned during the task; shaded by how many",
        _change,
        lambda board, group, task: (
            board.turnover[group][task].born - board.turnover[group][task].died
        ),
    ),
    Measure(
        "importance",
        "mean importance of a unit; shaded on a logarithmic scale",
        _importance,
        _mean_importance,
    ),
    Measure("unused", "share of units whose importance is exactly 0", _unused, _unused_share),
)


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
