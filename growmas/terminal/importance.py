"""The heat map of importance that `growmas importance` prints: what is protected, what is free.

`summarise` computes; `as_data` and `render_importance` only format the result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from growmas.errors import HistoryError
from growmas.history import TopologyHistory
from growmas.terminal.folding import fitting, joined, shared_words, title
from growmas.terminal.lookup import all_tasks, find_group
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, plain_table, with_notes

FREE = 0.1
"""A unit is free if its importance is below this share of its group's mean."""

_NAME_WIDTH = 18
_CELL = 5


@dataclass(frozen=True)
class Load:
    """Spread of the importance of a group of U units at a snapshot.

    Attributes:
        units: U.
        total: Σ v over the units' importances v.
        spread: (Σ v)² / (U Σ v²), the participation ratio: the share of the units that would
            carry the total if each carried the same; 0 if every importance is 0.
        free: Number of units below `FREE` times the mean.
    """

    units: int
    total: float
    spread: float
    free: int


@dataclass(frozen=True)
class ImportanceSummary:
    """Contents of the heat map; T tasks.

    Attributes:
        tasks: Names of the T tasks whose snapshots measured importance.
        left_out: Names of the other tasks.
        groups: [T] loads per group; None where the group was not measured.
    """

    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    groups: Mapping[str, tuple[Load | None, ...]]


def summarise(history: TopologyHistory, *, group: str | None = None) -> ImportanceSummary:
    """Compute the contents of the heat map, from one state of the file.

    Args:
        history: History to read.
        group: Only this group; by default all.

    Raises:
        HistoryError: If no snapshot measured importance, or the group does not exist.
    """
    with history.frozen():
        names = tuple(task.name for task in all_tasks(history))
        groups = history.groups() if group is None else (find_group(history, group),)
        loads = {
            each.name: {
                task: load_of(values.values())
                for task, values in history.group_importance(each.name).items()
            }
            for each in groups
        }
    measured = tuple(task for task in names if any(task in each for each in loads.values()))
    if not measured:
        raise HistoryError(
            f"{history.path} has no importance: give snapshots omega, such as "
            "tracker.snapshot(task, omega=mas.omega)"
        )
    return ImportanceSummary(
        tasks=measured,
        left_out=tuple(task for task in names if task not in measured),
        groups={name: tuple(by.get(task) for task in measured) for name, by in loads.items()},
    )


def load_of(values: Iterable[float]) -> Load:
    """Return the load of a group whose units have these importances."""
    known = list(values)
    total, squares = sum(known), sum(value * value for value in known)
    limit = FREE * total / max(1, len(known))
    return Load(
        units=len(known),
        total=total,
        spread=total * total / (len(known) * squares) if squares else 0.0,
        free=sum(value < limit for value in known) if squares else len(known),
    )


def as_data(summary: ImportanceSummary) -> dict[str, object]:
    """Return the heat map as a JSON-ready dict."""
    return {
        "tasks": list(summary.tasks),
        "not_measured": list(summary.left_out),
        "free_below": FREE,
        "groups": {
            name: {
                task: asdict(load)
                for task, load in zip(summary.tasks, loads, strict=True)
                if load is not None
            }
            for name, loads in summary.groups.items()
        },
    }


def render_importance(summary: ImportanceSummary, *, ascii: bool = False) -> RenderableType:
    """Return a heat map of groups and tasks that fits the width of a rich console.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    return _HeatMap(summary, symbols(ascii=ascii))


@dataclass(frozen=True)
class _HeatMap:
    """A heat map that is laid out when it is printed."""

    summary: ImportanceSummary
    symbols: Symbols

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        changes = self._changes()
        room = (options.max_width - _NAME_WIDTH) // (_CELL + 1)
        table, columns = fitting(self._table, changes, room, console, options)
        yield with_notes(table, self._notes(columns))

    def _changes(self) -> list[float]:
        """Return how much the spread changed in each task, summed over groups."""
        changes = [0.0] * len(self.summary.tasks)
        for loads in self.summary.groups.values():
            spread = [load.spread if load else 0.0 for load in loads]
            for index, (before, now) in enumerate(zip([0.0, *spread], spread, strict=False)):
                changes[index] += abs(now - before)
        return changes

    def _table(self, columns: Sequence[range]) -> Table:
        summary = self.summary
        table = plain_table(self.symbols, gap=0)
        table.add_column("group", max_width=_NAME_WIDTH, overflow="fold")
        for heading in ("units", "free "):
            table.add_column(heading, justify="right", no_wrap=True)
        shared = shared_words(summary.tasks)
        names = [task.removeprefix(shared) for task in summary.tasks]
        for column in columns:
            name = title(names, column, ellipsis=self.symbols.ellipsis)
            table.add_column(Text(name), min_width=_CELL, max_width=8, overflow="fold")
        for group, loads in summary.groups.items():
            last = next((load for load in reversed(loads) if load is not None), None)
            now = (f"{last.units:,}", f"{last.free:,} ") if last else (self.symbols.nothing,) * 2
            table.add_row(Text(group), *now, *(self._cell(loads[c[-1]]) for c in columns))
        return table

    def _cell(self, load: Load | None) -> Text:
        if load is None:
            return Text(self.symbols.nothing)
        shade = self.symbols.draw_shade(load.spread) * 2
        return Text(shade, _heat(load.spread)).append(f"{round(100 * load.spread):>3}", "default")

    def _notes(self, columns: Sequence[range]) -> list[str]:
        summary, shade = self.summary, self.symbols.shade
        lines: list[str] = [
            Explanation(
                f"{shade[-1] * 2} protected, {shade[1] * 2} room: percent of the units that would "
                "carry the group's importance if each carried as much, "
                f"{self.symbols.participation}."
            ),
            Explanation(
                f"Free: units below {FREE:.0%} of their group's mean, at the last snapshot."
            ),
        ]
        if len(columns) < len(summary.tasks):
            lines.append(
                f"{joined(len(summary.tasks), len(columns))}, joined where least "
                "changed; a column says how its last task ended."
            )
        if summary.left_out:
            count = len(summary.left_out)
            lines.append(f"{count} task{'s' * (count > 1)} without importance left out.")
        return lines


def _heat(share: float) -> str:
    """Return a colour for a share; the shade and the number show the same."""
    return ("blue", "cyan", "green", "yellow", "red")[min(4, int(5 * share))]
