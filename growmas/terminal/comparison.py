"""A table of runs side by side, as `growmas compare` shows it."""

from collections.abc import Mapping

from rich.console import RenderableType
from rich.text import Text

from growmas.runs import Comparison
from growmas.runs.result import RunResult
from growmas.terminal.breaking import BreakingName
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, Fitting, as_list, plain_table, with_notes

_NUMBERS = ("seed", "ACC", "BWT", "forgetting", "parameters", "seconds")
_ROOM = 76  # columns that the table needs for names of runs, methods and groups
_LISTED_GROUPS = 4  # with more groups of units a cell gives their sum; the data have them all


def render_comparison(comparison: Comparison, *, ascii: bool = False) -> RenderableType:
    """Draw a table of runs with ACC, BWT and forgetting in percent, for a rich console.

    Nothing is marked as the best: single runs say nothing about other seeds. The formulas are
    printed below.

    Args:
        comparison: Of `growmas.runs.compare`.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    signs = symbols(ascii=ascii)
    names = ("run", "method", "units")
    rows = [_cells(run, signs) for run in comparison.runs]
    table = plain_table(signs, gap=0)
    for heading in names:
        table.add_column(heading, overflow="fold")
    for heading in _NUMBERS:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, *others in rows:
        table.add_row(BreakingName(name), *map(Text, others))
    return with_notes(
        Fitting(table, as_list(names, _NUMBERS, rows), room=_ROOM), _notes(comparison, signs)
    )


def _cells(run: RunResult, signs: Symbols) -> list[str]:
    return [
        run.name if run.finished else f"{run.name} ({run.learnt}/{len(run.tasks)} tasks)",
        run.method,
        _units(run.units),
        str(run.seed),
        signs.percent(run.average_accuracy),
        signs.percent(run.backward_transfer),
        signs.percent(run.forgetting),
        f"{run.parameters:,}",
        f"{run.seconds:,.1f}",
    ]


def _notes(comparison: Comparison, signs: Symbols) -> list[str]:
    head = "In percent, R[i][j] the accuracy on task j after task i, T the tasks learnt:"
    lines: list[str] = [*map(Explanation, (head, *signs.formulas))]
    if comparison.differences:
        lines.append(f"These runs do not compare: {'; '.join(comparison.differences)}.")
    elif len(comparison.runs) > 1:
        lines.append("One run each: a sweep over seeds tells whether differences hold.")
    if not all(run.finished for run in comparison.runs):
        lines.append("(n/T tasks): unfinished, its numbers are over the n tasks learnt so far.")
    return lines


def _units(units: Mapping[str, int]) -> str:
    if len(units) > _LISTED_GROUPS:
        return f"{sum(units.values()):,} in {len(units)} groups"
    return "\n".join(f"{name} {count}" for name, count in units.items())
