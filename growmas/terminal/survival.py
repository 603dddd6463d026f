"""Survival of the units born in each task, as `growmas survival` prints it.

`summarise` computes; `as_data` and `render_survival` only format the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import Cohort
from growmas.terminal.folding import fitting, fold, joined, shared_words, title
from growmas.terminal.lookup import all_tasks, find_group
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import plain_table, with_notes

_MOST_ROWS = 24  # with more cohorts, neighbours share a row
_NAME_WIDTH = 18
_CELL = 4  # a percentage and its level


@dataclass(frozen=True)
class SurvivalSummary:
    """Contents of the table; T tasks.

    Attributes:
        tasks: Names of the tasks.
        group: Name of the group of the units; None for all groups.
        cohorts: Cohorts by birth, that which the network began with first; tasks without births
            are left out.
        alive: [T] units alive at the end of each task.
        born: [T] units born so far, including those that the network began with.
    """

    tasks: tuple[str, ...]
    group: str | None
    cohorts: tuple[Cohort, ...]
    alive: tuple[int, ...]
    born: tuple[int, ...]


def summarise(history: TopologyHistory, *, group: str | None = None) -> SurvivalSummary:
    """Compute the contents of the table, from one state of the file.

    Args:
        history: History to read.
        group: Name of the only group to show; None takes all together.

    Raises:
        HistoryError: If the group does not exist, or no task has begun.
    """
    with history.frozen():
        tasks = tuple(task.name for task in all_tasks(history))
        if group is not None:
            find_group(history, group)
        cohorts = history.survival(group)
    return SurvivalSummary(
        tasks=tasks,
        group=group,
        cohorts=cohorts,
        alive=tuple(sum(each.alive.get(task, 0) for each in cohorts) for task in tasks),
        born=tuple(sum(each.size for each in cohorts if task in each.alive) for task in tasks),
    )


def as_data(summary: SurvivalSummary) -> dict[str, object]:
    """Return the table as a JSON-ready dict, with numbers of units instead of percent."""
    return {
        "group": summary.group,
        "tasks": list(summary.tasks),
        "cohorts": [
            {"born": each.task, "initial": each.initial, "size": each.size, "alive": each.alive}
            for each in summary.cohorts
        ],
        "alive": dict(zip(summary.tasks, summary.alive, strict=True)),
        "born": dict(zip(summary.tasks, summary.born, strict=True)),
    }


def render_survival(summary: SurvivalSummary, *, ascii: bool = False) -> RenderableType:
    """Return a triangle of cohorts and tasks, in percent, in the width of a rich console.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    return _Survival(summary, symbols(ascii=ascii))


@dataclass(frozen=True)
class _Survival:
    """A table that is laid out when it is printed."""

    summary: SurvivalSummary
    symbols: Symbols

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        changes = self._deaths()
        room = (options.max_width - _NAME_WIDTH) // (_CELL + 1)
        table, columns = fitting(self._table, changes, room, console, options)
        yield with_notes(table, self._notes(columns))

    def _deaths(self) -> list[float]:
        """Return how many units were pruned in each task."""
        born, alive = self.summary.born, self.summary.alive
        dead = [plus - left for plus, left in zip(born, alive, strict=True)]
        return [float(now - before) for before, now in zip([0, *dead], dead, strict=False)]

    def _table(self, columns: Sequence[range]) -> Table:
        summary = self.summary
        table = plain_table(self.symbols, gap=0)
        table.add_column(Text("born in"), max_width=_NAME_WIDTH, overflow="fold")
        table.add_column("units ", justify="right", no_wrap=True)
        shared = shared_words(summary.tasks)
        names = [task.removeprefix(shared) for task in summary.tasks]
        for column in columns:
            name = title(names, column, ellipsis=self.symbols.ellipsis)
            table.add_column(Text(name), min_width=_CELL, max_width=8, overflow="fold")
        for name, size, alive in self._rows():
            cells = [self._cell(alive[column[-1]], size[column[-1]]) for column in columns]
            table.add_row(Text(name), f"{max(size):,} ", *cells)
        table.add_section()
        cells = [self._cell(summary.alive[c[-1]], summary.born[c[-1]]) for c in columns]
        table.add_row("all", f"{summary.born[-1]:,} ", *cells)
        return table

    def _rows(self) -> list[tuple[str, list[int], list[int]]]:
        """Return name, units born so far and units alive after each task, per row."""
        tasks = self.summary.tasks
        initial = [each for each in self.summary.cohorts if each.initial]
        later = [each for each in self.summary.cohorts if not each.initial]
        rows = [("the beginning", initial)] if initial else []
        names = [each.task for each in later]
        for stretch in fold([float(each.size) for each in later], _MOST_ROWS):
            name = title(names, stretch, ellipsis=self.symbols.ellipsis)
            rows.append((name, [later[index] for index in stretch]))
        return [
            (
                name,
                [sum(each.size for each in of if task in each.alive) for task in tasks],
                [sum(each.alive.get(task, 0) for each in of) for task in tasks],
            )
            for name, of in rows
        ]

    def _cell(self, alive: int, born: int) -> Text:
        if not born:
            return Text("")
        percent = round(100 * alive / born)
        if percent in (0, 100):  # printed only where it is exactly none or all
            percent = min(max(percent, int(alive > 0)), 100 - int(alive < born))
        text = Text(f"{percent:>3}")
        return text.append(self.symbols.draw_level(alive / born) if alive else " ", "cyan")

    def _notes(self, columns: Sequence[range]) -> list[str]:
        summary = self.summary
        whose = "all groups together" if summary.group is None else f"group {summary.group}"
        lines = [
            f"Percent of the units born in a task that live at the end of each task; {whose}: "
            f"{summary.alive[-1]:,} alive of {summary.born[-1]:,} ever.",
        ]
        if len(columns) < len(summary.tasks):
            lines.append(
                f"{joined(len(summary.tasks), len(columns))}, joined where least died; "
                "a column says how its last task ended."
            )
        return lines
