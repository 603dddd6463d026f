"""The settings of a sweep side by side, and the plan of one."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from growmas.config.formatting import short_keys
from growmas.runs.finding import SWEEP
from growmas.sweep.summary import Setting, Spread, SweepSummary
from growmas.terminal.settings import settings_table
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, with_notes


def render_sweep(summary: SweepSummary, *, ascii: bool = False) -> RenderableType:
    """Draw a row for each setting: its values, and means over seeds, for a rich console.

    Args:
        summary: Of `growmas.sweep.summarise`.
        ascii: Use ASCII characters only (values are printed as they are).
    """
    signs = symbols(ascii=ascii)
    headings = short_keys(summary.varied)
    names = [headings[key] for key in summary.varied] or ["setting"]
    numbers = ["runs", "ACC", "forgetting", "parameters", "CPU s"]
    rows = [_cells(setting, summary.varied, signs) for setting in summary.settings]
    return with_notes(settings_table(names, numbers, rows, signs), _notes(summary, signs))


def _cells(setting: Setting, varied: Sequence[str], signs: Symbols) -> list[str]:
    partial = setting.finished < setting.runs
    return [
        *([setting.values.get(key, signs.nothing) for key in varied] or ["all"]),
        f"{setting.finished}/{setting.runs}" if partial else str(setting.runs),
        _percent(setting.average_accuracy, signs),
        _percent(setting.forgetting, signs),
        _number(setting.parameters, ",.0f", signs),
        _number(setting.cpu_seconds, ",.1f", signs),
    ]


def render_plan(
    folder: Path, runs: Sequence[tuple[str, str]], *, ascii: bool = False
) -> RenderableType:
    """Draw what a sweep would do, for a rich console.

    Args:
        folder: Of the sweep.
        runs: The name and the state of each run.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, state in runs:
        table.add_row(Text(state), Text(name, overflow="fold"))
    finished = sum(state == "finished" for _, state in runs)
    count = f"{len(runs) - finished} to run, {finished} finished; nothing was started"
    return with_notes(table, [f"in {folder}: {count}"])


def _notes(summary: SweepSummary, signs: Symbols) -> list[str]:
    seeds = sorted({seed for setting in summary.settings for seed in setting.seeds})
    accuracy, _, forgetting = signs.formulas
    same = {
        key: value
        for key, value in (summary.settings[0].values.items() if summary.settings else ())
        if key not in summary.varied
    }
    lines = []
    if any(setting.finished > 1 for setting in summary.settings):
        lines.append(
            f"mean {signs.spread} sample standard deviation over runs, "
            f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
        )
    head = "In percent, R[i][j] the accuracy on task j after task i, T the tasks learnt:"
    lines += map(Explanation, (head, accuracy, forgetting))
    if same:
        lines.append("In every run: " + ", ".join(f"{key}={value}" for key, value in same.items()))
    if any(setting.finished < setting.runs for setting in summary.settings):
        failed = sum(run.status == "failed" for run in summary.runs)
        told = f"; {failed} failed, {SWEEP} says why" if failed else ""
        lines.append(f"n/m runs: only the n finished ones count{told}.")
    return lines


def _percent(spread: Spread | None, signs: Symbols) -> str:
    if spread is None:
        return signs.nothing
    mean = signs.percent(spread.mean)
    if spread.deviation is None:
        return mean
    return f"{mean} {signs.spread} {signs.percent(spread.deviation)}"


def _number(spread: Spread | None, form: str, signs: Symbols) -> str:
    if spread is None:
        return signs.nothing
    mean = f"{spread.mean:{form}}"
    if not spread.deviation:
        return mean
    return f"{mean} {signs.spread} {spread.deviation:{form}}"
