"""Lifelines of units, from birth to death, as `growmas lifelines` prints them.

`summarise` computes; `as_data` and `render_lifelines` only format the result.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import Lifeline
from growmas.terminal.folding import fold, joined, shared_words, title
from growmas.terminal.lookup import all_tasks, find_group
from growmas.terminal.naming import some_units
from growmas.terminal.symbols import Symbols, symbols

_MOST_LINES = 40  # per group; with more, units born in the same task share a line
_CELL = 8  # characters per task, at most
_LABEL = 20  # characters for the names of units


@dataclass(frozen=True)
class Life:
    """Units that share a line.

    Attributes:
        units: Ids of the units.
        birth: Index of the task in which the first of them was born.
        initial: True if the network began with all of them.
        split: True if all of them were split from other units.
        alive: Number of them alive at the end of each task, from task `birth` on.
        frozen: Number of them frozen at the end of each task, from task `birth` on.
        deaths: Index of a task -> number of them pruned in it.
    """

    units: tuple[int, ...]
    birth: int
    initial: bool
    split: bool
    alive: tuple[int, ...]
    frozen: tuple[int, ...]
    deaths: Mapping[int, int]

    @property
    def living(self) -> int:
        """Number of units alive now."""
        return self.alive[-1]


@dataclass(frozen=True)
class GroupLives:
    """The lines of a group.

    Attributes:
        group: Name of the group.
        living: Number of units alive now.
        ever: Number of units that ever lived.
        line_per: What units on the same line have in common: "unit" (a line each), "life" (the
            same birth, death and frozen stretches) or "birth" (the same task of birth).
        lives: The lines, in order of birth.
    """

    group: str
    living: int
    ever: int
    line_per: str
    lives: tuple[Life, ...]


@dataclass(frozen=True)
class LifelinesSummary:
    """Contents of the drawing.

    Attributes:
        tasks: Names of the tasks.
        groups: Lines per group, in the structure's order.
    """

    tasks: tuple[str, ...]
    groups: tuple[GroupLives, ...]


def summarise(
    history: TopologyHistory, *, group: str | None = None, every: bool = False
) -> LifelinesSummary:
    """Compute the lines, from one state of the file.

    Args:
        history: History to read.
        group: Name of the only group to show; None shows all.
        every: True gives each unit its own line.

    Raises:
        HistoryError: If the group does not exist, or no task has begun.
    """
    with history.frozen():
        tasks = tuple(task.name for task in all_tasks(history))
        groups = history.groups() if group is None else (find_group(history, group),)
        by_group = {name: list(of) for name, of in groupby(history.lifelines(group), _group)}
    positions = {task: index for index, task in enumerate(tasks)}
    return LifelinesSummary(
        tasks,
        tuple(
            _group_lives(each.name, by_group.get(each.name, []), positions, every=every)
            for each in groups
        ),
    )


def as_data(summary: LifelinesSummary) -> dict[str, object]:
    """Return the lines as a JSON-ready dict; tasks are given by name."""
    tasks = summary.tasks
    return {
        "tasks": list(tasks),
        "groups": [
            {
                "group": each.group,
                "living": each.living,
                "ever": each.ever,
                "line_per": each.line_per,
                "lines": [
                    {
                        "units": list(life.units),
                        "born": tasks[life.birth],
                        "initial": life.initial,
                        "split": life.split,
                        "alive": dict(zip(tasks[life.birth :], life.alive, strict=True)),
                        "frozen": dict(zip(tasks[life.birth :], life.frozen, strict=True)),
                        "pruned": {tasks[task]: count for task, count in life.deaths.items()},
                    }
                    for life in each.lives
                ],
            }
            for each in summary.groups
        ],
    }


def render_lifelines(summary: LifelinesSummary, *, ascii: bool = False) -> RenderableType:
    """Return the lines below a ruler of tasks, in the width of a rich console.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    return _Lifelines(summary, symbols(ascii=ascii))


def _group_lives(
    name: str, lines: Sequence[Lifeline], tasks: Mapping[str, int], *, every: bool
) -> GroupLives:
    line_per, shared = "unit", [[line] for line in lines]
    if not every:
        lives = _grouped(lines, lambda line: (*_birth(line, tasks), *_course(line, tasks)))
        if len(lives) < len(shared):
            line_per, shared = "life", lives
        if len(shared) > _MOST_LINES:
            line_per, shared = "birth", _grouped(lines, lambda line: _birth(line, tasks)[:2])
        if len(shared) > _MOST_LINES:
            stretches = fold([float(len(each)) for each in shared], _MOST_LINES)
            shared = [[line for i in stretch for line in shared[i]] for stretch in stretches]
    return GroupLives(
        group=name,
        living=sum(line.death_task is None for line in lines),
        ever=len(lines),
        line_per=line_per,
        lives=tuple(_life(each, tasks) for each in shared),
    )


def _grouped(
    lines: Sequence[Lifeline], key: Callable[[Lifeline], tuple[Any, ...]]
) -> list[list[Lifeline]]:
    """Return lists of units with the same key, in the order of the key."""
    found: dict[tuple[Any, ...], list[Lifeline]] = {}
    for line in lines:
        found.setdefault(key(line), []).append(line)
    return [found[each] for each in sorted(found)]


def _birth(line: Lifeline, tasks: Mapping[str, int]) -> tuple[int, bool, bool]:
    return tasks[line.birth_task], line.birth_reason is not None, line.parent is not None


def _course(line: Lifeline, tasks: Mapping[str, int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return the death, negative so that the longest lives come first, and frozen stretches."""
    end = len(tasks) if line.death_task is None else tasks[line.death_task]
    return -end, tuple((tasks[first], tasks[last]) for first, last in line.frozen)


def _life(lines: Sequence[Lifeline], tasks: Mapping[str, int]) -> Life:
    births = Counter(tasks[line.birth_task] for line in lines)
    deaths = Counter(tasks[line.death_task] for line in lines if line.death_task is not None)
    frozen = [(tasks[first], tasks[last]) for line in lines for first, last in line.frozen]
    starts, ends = Counter(first for first, _ in frozen), Counter(last + 1 for _, last in frozen)
    birth = min(births)
    after = range(birth, len(tasks))
    return Life(
        units=tuple(line.unit for line in lines),
        birth=birth,
        initial=all(line.birth_reason is None for line in lines),
        split=all(line.parent is not None for line in lines),
        alive=tuple(accumulate(births[task] - deaths[task] for task in after)),
        frozen=tuple(accumulate(starts[task] - ends[task] for task in after)),
        deaths=dict(sorted(deaths.items())),
    )


def _group(line: Lifeline) -> str:
    return line.group


@dataclass(frozen=True)
class _Lifelines:
    """Lifelines that are laid out when they are printed."""

    summary: LifelinesSummary
    symbols: Symbols

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, options.max_width - _LABEL - 1)
        columns = fold(self._changes(), min(len(self.summary.tasks), room))
        cell = max(1, min(_CELL, room // len(columns)))
        for index, group in enumerate(self.summary.groups):
            if index:
                yield Text()
            yield self._head(group)
            yield Text(" " * (_LABEL + 1) + self._ruler(columns, cell, room), "dim")
            for life in group.lives:
                yield self._label(life, group.line_per).append(self._line(life, columns, cell))
        yield Text()
        yield Text(self._legend(columns), "dim")

    def _changes(self) -> list[float]:
        """Return how many units were born or pruned in each task."""
        changes = [0.0] * len(self.summary.tasks)
        for life in (life for group in self.summary.groups for life in group.lives):
            if not life.initial:
                changes[life.birth] += len(life.units)
            for task, count in life.deaths.items():
                changes[task] += count
        return changes

    def _head(self, group: GroupLives) -> Text:
        per = {
            "unit": "a line for each",
            "life": "a line for those with the same life",
            "birth": "a line for those born in the same task",
        }
        text = Text(group.group, "bold")
        return text.append(
            f"  {group.living} alive of {group.ever}, {per[group.line_per]}", "not bold"
        )

    def _ruler(self, columns: Sequence[range], cell: int, room: int) -> str:
        """Return names of tasks over their columns, as many as fit."""
        shared = shared_words(self.summary.tasks)
        names = [task.removeprefix(shared) for task in self.summary.tasks]
        line = ""
        for index, column in enumerate(columns):
            name = title(names, column, ellipsis=self.symbols.ellipsis)
            at = index * cell
            if len(line) <= at and at + len(name) <= room:
                line = f"{line:<{at}}{name} "
        return line.rstrip()

    def _label(self, life: Life, line_per: str) -> Text:
        if line_per == "birth":
            text = f"{life.living:>5}/{len(life.units)} alive"
        else:
            names = some_units(life.units, most=1, ellipsis="").split("  ")
            more = f" {self.symbols.ellipsis}" if len(names) > 1 else ""
            text = f"{len(life.units):>5}  {names[0]}{more}"
        return Text(f"{text[:_LABEL]:<{_LABEL}} ")

    def _line(self, life: Life, columns: Sequence[range], cell: int) -> Text:
        return Text().join(self._cell(life, column, cell) for column in columns)

    def _cell(self, life: Life, column: range, width: int) -> Text:
        """Return the part of a line for some tasks: the state at their end, births and deaths."""
        born, split, alive, frozen, now, pruned = self.symbols.life
        last = column[-1] - life.birth
        if last < 0 or self._over(life, column):
            return Text(" " * width)
        if len(life.units) > 1 and self._varies(life):
            share = life.alive[last] / len(life.units)
            return Text(self.symbols.draw_level(share) * width, "cyan")
        cell = list((frozen if life.frozen[last] else alive) * width)
        if not life.initial and life.birth in column:
            cell[0] = split if life.split else born
        if not life.alive[last]:
            cell[-1] = pruned
        elif column[-1] == len(self.summary.tasks) - 1:
            cell[-1] = now
        styles = {born: "green", split: "green", pruned: "red", frozen: "blue"}
        return Text.assemble(*((sign, styles.get(sign, "cyan")) for sign in cell))

    def _over(self, life: Life, column: range) -> bool:
        """Return True if all units had been pruned before these tasks."""
        before = column[0] - 1 - life.birth
        return before >= 0 and not life.alive[before]

    def _varies(self, life: Life) -> bool:
        """Return True if the units were not all born and pruned at the same time."""
        return len({*life.alive} - {0}) > 1

    def _legend(self, columns: Sequence[range]) -> str:
        born, split, alive, frozen, now, pruned = self.symbols.life
        lives = [life for group in self.summary.groups for life in group.lives]
        signs = [f"{born} born"]
        signs += [f"{split} split from another"] if any(life.split for life in lives) else []
        signs += [f"{alive} alive"]
        signs += [f"{frozen} frozen"] if any(any(life.frozen) for life in lives) else []
        signs += [f"{pruned} pruned", f"{now} alive now"]
        text = "  ".join(signs) + "\nA column is a task."
        if any(len(life.units) > 1 and self._varies(life) for life in lives):
            levels = self.symbols.spark
            text += f" {levels[0]} to {levels[-1]}: how many of the line's units live."
        if len(columns) < len(self.summary.tasks):
            text += f" {joined(len(self.summary.tasks), len(columns))}, joined where least changed."
        if any(len(life.units) > 1 for life in lives):
            text += " --all gives each unit its own line."
        return text
