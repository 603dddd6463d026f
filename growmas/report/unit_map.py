"""The units of a group over tasks, joined into as many rows as fit into a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from growmas.history import TopologyHistory

ROWS = 72


@dataclass(frozen=True)
class UnitMap:
    """Units in rows by their ids, which rise with birth; several per row if there are many.

    Attributes:
        first: Smallest id of each row.
        last: Largest id of each row.
        born: Number of units of each row that ever lived.
        alive: Number of units of each row that live at the end of each task, by row and task.
        importance: Mean importance by row and task; None where it was not measured.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    born: tuple[int, ...]
    alive: tuple[tuple[int, ...], ...]
    importance: tuple[tuple[float | None, ...], ...]


def map_units(
    history: TopologyHistory, group: str, tasks: Sequence[str], *, rows: int = ROWS
) -> UnitMap:
    """Join the units of a group into at most `rows` rows of equal size."""
    lives = history.lifelines(group)
    each = max(1, -(-len(lives) // rows))
    places = {task: i for i, task in enumerate(tasks)}
    row_of = {line.unit: i // each for i, line in enumerate(lives)}
    count = -(-len(lives) // each)
    changes = [[0] * (len(tasks) + 1) for _ in range(count)]
    for line in lives:
        row = changes[row_of[line.unit]]
        row[places[line.birth_task]] += 1
        if line.death_task is not None:
            row[places[line.death_task]] -= 1
    measured = history.group_importance(group)
    means = [_row_means(measured.get(task, {}), row_of, count) for task in tasks]
    chunks = [lives[i * each : (i + 1) * each] for i in range(count)]
    return UnitMap(
        first=tuple(chunk[0].unit for chunk in chunks),
        last=tuple(chunk[-1].unit for chunk in chunks),
        born=tuple(len(chunk) for chunk in chunks),
        alive=tuple(_running(row[:-1]) for row in changes),
        importance=tuple(tuple(column[i] for column in means) for i in range(count)),
    )


def _row_means(values: dict[int, float], row_of: dict[int, int], count: int) -> list[float | None]:
    sums, numbers = [0.0] * count, [0] * count
    for unit, value in values.items():
        row = row_of[unit]
        sums[row] += value
        numbers[row] += 1
    return [s / n if n else None for s, n in zip(sums, numbers, strict=True)]


def _running(changes: Sequence[int]) -> tuple[int, ...]:
    total, sums = 0, []
    for change in changes:
        total += change
        sums.append(total)
    return tuple(sums)
