"""Two runs side by side: the view behind `growmas diff RUN RUN`.

`summarise` computes; `as_data` and `render_run_diff` only present it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.differences import diff_runs
from growmas.history.records import GroupState, NetworkState
from growmas.terminal.breaking import BreakingName
from growmas.terminal.lookup import all_tasks
from growmas.terminal.numbers import Pair, number_table, pairs
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, plain_table, with_notes

_NAME_WIDTH = 20
_BAR_WIDTH = 8


@dataclass(frozen=True)
class RunDiff:
    """Difference of two runs; every pair is of the first run and of the second.

    Attributes:
        names: Of the runs, as given.
        tasks: The last task of each.
        counts: Number of tasks of each.
        groups: Groups of either run; None where a run lacks one.
        numbers: Sizes and metrics at the last tasks.
        sizes: Number of `numbers` that are sizes.
    """

    names: tuple[str, str]
    tasks: tuple[str, str]
    counts: tuple[int, int]
    groups: Mapping[str, tuple[GroupState | None, GroupState | None]]
    numbers: tuple[Pair, ...]
    sizes: int


def summarise(
    first: TopologyHistory, second: TopologyHistory, *, names: tuple[str, str]
) -> RunDiff:
    """Compare two runs as their last tasks left them.

    Args:
        first: The history of one run.
        second: The history of the other.
        names: Their names.

    Raises:
        HistoryError: One of them has not begun a task.
    """
    with first.frozen(), second.frozen():
        mine, theirs = all_tasks(first), all_tasks(second)
        diff = diff_runs(first.at(), second.at())
    before, after = diff.before, diff.after
    sizes: dict[str, tuple[int | None, int | None]] = {
        "units": (_units(before), _units(after)),
        "parameters": (before.parameters, after.parameters),
    }
    if first.flops_of == second.flops_of:  # files of earlier versions count another quantity
        sizes["FLOPs"] = before.flops, after.flops
    known = {name: both for name, both in sizes.items() if both != (None, None)}
    return RunDiff(
        names=names,
        tasks=(before.task, after.task),
        counts=(len(mine), len(theirs)),
        groups=diff.groups,
        numbers=pairs(
            known, before.metrics, after.metrics, [task.name for task in (*mine, *theirs)]
        ),
        sizes=len(known),
    )


def as_data(summary: RunDiff) -> dict[str, object]:
    """Return the difference as a JSON-ready dict; pairs are lists of two."""
    return {
        "runs": list(summary.names),
        "last_tasks": list(summary.tasks),
        "tasks": list(summary.counts),
        "groups": {
            name: [None if state is None else asdict(state) for state in both]
            for name, both in summary.groups.items()
        },
        "numbers": {each.name: [each.before, each.after] for each in summary.numbers},
    }


def render_run_diff(summary: RunDiff, *, ascii: bool = False) -> RenderableType:
    """Draw tables of units and of numbers, for a rich console.

    Args:
        summary: What to show.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    signs = symbols(ascii=ascii)
    return Group(
        with_notes(_groups(summary, signs), _notes(summary, signs)),
        Text(),
        number_table(summary.numbers, summary.names, signs, keep=summary.sizes),
    )


def _units(state: NetworkState) -> int:
    return sum(state.widths.values())


def _groups(summary: RunDiff, signs: Symbols) -> Table:
    table = plain_table(signs)
    table.add_column("units", max_width=_NAME_WIDTH, overflow="fold")
    for name in summary.names:
        table.add_column(BreakingName(name), overflow="fold")
    widths = [state.width for both in summary.groups.values() for state in both if state]
    for group, both in summary.groups.items():
        table.add_row(BreakingName(group), *(_state(state, max(widths), signs) for state in both))
    return table


def _state(state: GroupState | None, widest: int, signs: Symbols) -> Text:
    if state is None:
        return Text(signs.nothing)
    text = Text(f"{state.width:>{len(str(widest))}} ")
    bar = signs.draw_bar(state.width / widest if widest else 0.0, _BAR_WIDTH)
    text.append(f"{bar:<{_BAR_WIDTH}}", "cyan")
    if state.born:
        text.append(f" +{state.born}", "green")
    if state.pruned:
        text.append(f" {signs.minus}{state.pruned}", "red")
    return text


def _notes(summary: RunDiff, signs: Symbols) -> list[str]:
    lines = [
        f"{name}: {count} task{'s' * (count != 1)}, as of {task}."
        for name, count, task in zip(summary.names, summary.counts, summary.tasks, strict=True)
    ]
    lines.append(
        Explanation(
            f"171 +162 {signs.minus}55: 171 units alive, 162 added and 55 removed since the run "
            "began."
        )
    )
    return lines
