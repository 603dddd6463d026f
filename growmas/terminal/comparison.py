"""A table of runs side by side, as `growmas compare` shows it."""

from collections.abc import Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from growmas.runs import Comparison
from growmas.terminal.symbols import Symbols, symbols

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
    table = Table(
        box=signs.rule,
        show_edge=False,
        pad_edge=False,
        padding=0,
        header_style="bold",
        caption=Text("\n" + _caption(comparison, signs)),
        caption_justify="left",
        caption_style="",
    )
    for heading in ("run", "method", "units"):
        table.add_column(heading, overflow="fold")
    for heading in ("seed", "ACC", "BWT", "forgetting", "parameters", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in comparison.runs:
        table.add_row(
            Text(
                run.name if run.finished else f"{run.name}\n({run.learnt}/{len(run.tasks)} tasks)"
            ),
            Text(run.method),
            Text(_units(run.units)),
            str(run.seed),
            signs.percent(run.average_accuracy),
            signs.percent(run.backward_transfer),
            signs.percent(run.forgetting),
            f"{run.parameters:,}",
            f"{run.seconds:,.1f}",
        )
    return table


def _caption(comparison: Comparison, signs: Symbols) -> str:
    lines = [
        "In percent, R[i][j] the accuracy on task j after task i, T the tasks learnt:",
        *signs.formulas,
    ]
    if comparison.differences:
        lines.append(f"These runs do not compare: {'; '.join(comparison.differences)}.")
    elif len(comparison.runs) > 1:
        lines.append("One run each: a sweep over seeds tells whether differences hold.")
    if not all(run.finished for run in comparison.runs):
        lines.append("(n/T tasks): unfinished, its numbers are over the n tasks learnt so far.")
    return "\n".join(lines)


def _units(units: Mapping[str, int]) -> str:
    if len(units) > _LISTED_GROUPS:
        return f"{sum(units.values()):,} in {len(units)} groups"
    return "\n".join(f"{name} {count}" for name, count in units.items())
