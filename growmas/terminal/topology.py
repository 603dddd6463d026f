"""The table of a network from task to task, as `growmas show` prints it.

`summarise` computes; `as_data` and `render_history` only format the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import GroupRecord, Turnover
from growmas.terminal.folding import evenly, fitting, joined, shared_words, title
from growmas.terminal.lookup import all_tasks, find_group
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, plain_table, with_notes

_NAME_WIDTH = 18  # characters of group names; longer ones are wrapped
_TASK_WIDTH = 10  # characters per task at least, the length of "unfinished"
_BAR_WIDTH = 5  # characters of the longest bar
_SPARK_WIDTH = 9  # characters of a row of importances


@dataclass(frozen=True)
class TopologySummary:
    """Contents of the table; T tasks, and every tuple except `groups` has one entry per task.

    Attributes:
        tasks: Names of the tasks.
        unfinished: Name of the last task if it has no snapshot yet, else None.
        groups: Groups, with the numbers of units alive and of all units so far.
        turnover: Units before, born, died and after, per group.
        total: Turnover summed over groups.
        importance: Importance per group, summed over its units; None where it was not measured.
        parameters: Parameter counts; None where they were not written.
        final_accuracy: Accuracy on each task after the last task measured.
        mean_accuracy: Mean accuracy over the tasks so far, after each task.
        whole: True if all groups are here.
    """

    tasks: tuple[str, ...]
    unfinished: str | None
    groups: tuple[GroupRecord, ...]
    turnover: Mapping[str, tuple[Turnover, ...]]
    total: tuple[Turnover, ...]
    importance: Mapping[str, tuple[float | None, ...]]
    parameters: tuple[int | None, ...]
    final_accuracy: tuple[float | None, ...]
    mean_accuracy: tuple[float | None, ...]
    whole: bool = True


def summarise(history: TopologyHistory, *, group: str | None = None) -> TopologySummary:
    """Compute the contents of the table, from one state of the file.

    Args:
        history: History to read.
        group: Only this group; by default all.

    Raises:
        HistoryError: If no task has begun, or the group does not exist.
    """
    with history.frozen():
        tasks = all_tasks(history)
        names = tuple(task.name for task in tasks)
        groups = history.groups() if group is None else (find_group(history, group),)
        turnover = history.turnover()
        parameters = history.parameters()
        matrix = history.accuracy()
        metrics = history.all_metrics()
        importance = history.importance_summary()
    shown = {each.name: tuple(turnover[each.name].values()) for each in groups}
    nothing = (None,) * len(names)
    measured = [row for row in matrix if any(value is not None for value in row)]
    return TopologySummary(
        tasks=names,
        unfinished=tasks[-1].name if tasks and tasks[-1].finished is None else None,
        groups=groups,
        turnover=shown,
        total=tuple(
            reduce(add, (cells[i] for cells in shown.values()), Turnover(0, 0, 0, 0))
            for i in range(len(names))
        ),
        importance={
            each.name: tuple(
                numbers.total if (numbers := importance.get(each.name, {}).get(name)) else None
                for name in names
            )
            for each in groups
        },
        parameters=tuple(parameters.get(name) for name in names),
        whole=group is None,
        final_accuracy=measured[-1] if measured else nothing,
        mean_accuracy=tuple(
            metrics[name].get("accuracy", _mean(matrix[index][: index + 1]))
            for index, name in enumerate(names)
        ),
    )


def as_data(summary: TopologySummary) -> dict[str, object]:
    """Return the table as a JSON-ready dict: a list of tasks, each with all its cells."""
    return {
        "unfinished": summary.unfinished,
        "groups": [asdict(group) for group in summary.groups],
        "tasks": [
            {
                "task": name,
                "groups": {
                    group: {**asdict(cells[i]), "importance": summary.importance[group][i]}
                    for group, cells in summary.turnover.items()
                },
                "total": asdict(summary.total[i]),
                "parameters": summary.parameters[i],
                "final_accuracy": summary.final_accuracy[i],
                "mean_accuracy": summary.mean_accuracy[i],
            }
            for i, name in enumerate(summary.tasks)
        ],
    }


def render_history(summary: TopologySummary, *, ascii: bool = False) -> RenderableType:
    """Return a table of units per group and task, with parameters and accuracies.

    It fits the width of a rich console: if there are too many tasks, neighbours in which least
    changed share a column.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    return _TopologyTable(summary, symbols(ascii=ascii))


@dataclass(frozen=True)
class _TopologyTable:
    """A table that is laid out when it is printed."""

    summary: TopologySummary
    symbols: Symbols

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        changes = [cell.born + cell.died for cell in self.summary.total]
        room = (options.max_width - _NAME_WIDTH) // (_TASK_WIDTH + 1)
        table, columns = fitting(self._table, changes, room, console, options)
        yield with_notes(table, self._notes(columns))

    def _table(self, columns: Sequence[range]) -> Table:
        summary = self.summary
        units = {name: self._unit_cells(columns, cells) for name, cells in summary.turnover.items()}
        totals = {"all units": self._unit_cells(columns, summary.total)} if summary.whole else {}
        for label, values, form in (
            ("parameters", [_last(summary.parameters, column) for column in columns], "{:,.0f}"),
            ("final accuracy", [_over(summary.final_accuracy, column) for column in columns], ""),
            ("mean accuracy", [_last(summary.mean_accuracy, column) for column in columns], ""),
        ):
            if any(value is not None for value in values):
                totals[label] = [self._value_cell(value, form or "{:.1%}") for value in values]
        cells = [cell for row in (*units.values(), *totals.values()) for cell in row]
        widths = [line.cell_len for cell in cells for line in cell.split()]
        table = self._head(columns, width=max(widths, default=0))
        for group in summary.groups:
            table.add_row(self._name_cell(group), *units[group.name])
        table.add_section()
        for label, row in totals.items():
            table.add_row(label, *row)
        return table

    def _head(self, columns: Sequence[range], *, width: int) -> Table:
        table = plain_table(self.symbols)
        shared = shared_words(self.summary.tasks)
        table.add_column(
            Text(f"units\n{shared:>{_NAME_WIDTH}}" if shared else "units"),
            min_width=_NAME_WIDTH if shared else None,
            max_width=_NAME_WIDTH,
            overflow="fold",
        )
        for column in columns:
            table.add_column(
                Text(self._title(column)), width=max(width, _TASK_WIDTH), overflow="fold"
            )
        return table

    def _title(self, column: range) -> str:
        summary = self.summary
        shared = shared_words(summary.tasks)
        names = [task.removeprefix(shared) for task in summary.tasks]
        name = title(names, column, ellipsis=self.symbols.ellipsis)
        unfinished = summary.tasks[column[-1]] == summary.unfinished
        return f"{name}\nunfinished" if unfinished else name

    def _name_cell(self, group: GroupRecord) -> Text:
        values = self.summary.importance[group.name]
        second = f"{group.living}/{group.ever}"
        if any(value is not None for value in values):
            shown = evenly(len(values), _SPARK_WIDTH)
            second += " " + self.symbols.draw_spark([_last(values, each) for each in shown])
        return Text(f"{group.name}\n").append(second, "dim")

    def _unit_cells(self, columns: Sequence[range], cells: Sequence[Turnover]) -> list[Text]:
        widest = max((cell.width for cell in cells), default=0)
        return [self._unit_cell(reduce(_then, (cells[i] for i in c)), widest) for c in columns]

    def _unit_cell(self, cell: Turnover, widest: int) -> Text:
        text = Text(f"{cell.width:>{len(str(widest))}} ")
        if widest:
            text.append(self.symbols.draw_bar(cell.width / widest, _BAR_WIDTH), "cyan")
        changes = [(f"+{cell.born}", "green")] if cell.born else []
        if cell.died:
            changes.append((f"{self.symbols.minus}{cell.died}", "red"))
        return text.append("\n").append(Text(" ").join(Text(*change) for change in changes))

    def _value_cell(self, value: float | None, form: str) -> Text:
        return Text(self.symbols.nothing if value is None else form.format(value))

    def _notes(self, columns: Sequence[range]) -> list[str]:
        lines: list[str] = [
            Explanation(
                f"96, +16 {self.symbols.minus}4: 96 units after the task, 16 born and 4 pruned "
                "during it. A bar is the share of the row's largest width."
            )
        ]
        known = any(value is not None for row in self.summary.importance.values() for value in row)
        lines.append(
            Explanation(
                "Below a name: units alive / ever"
                + ("; importance from task to task, summed over the units." if known else ".")
            )
        )
        if any(value is not None for value in self.summary.final_accuracy):
            lines.append(
                Explanation(
                    "Final accuracy: on that task, after the last one. "
                    "Mean accuracy: over the tasks so far, after that task."
                )
            )
        if len(columns) < len(self.summary.tasks):
            lines.append(
                f"{joined(len(self.summary.tasks), len(columns))}, joined where least "
                "changed: births and deaths added up, final accuracy averaged, the rest as of the "
                "column's last task."
            )
        return lines


def _then(first: Turnover, second: Turnover) -> Turnover:
    """Return the turnover of two successive tasks as one."""
    return Turnover(first.before, first.born + second.born, first.died + second.died, second.width)


def _last(values: Sequence[float | None], column: range) -> float | None:
    return values[column[-1]]


def _over(values: Sequence[float | None], column: range) -> float | None:
    return _mean([values[index] for index in column])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
