"""The command `growmas compare`."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Group
from rich.text import Text

from growmas.cli.output import Output
from growmas.errors import RunError
from growmas.runs import compare
from growmas.runs.collection import Collection
from growmas.runs.finding import find_sweep
from growmas.runs.study import Study, compare_settings, group_by_seed
from growmas.sweep.collecting import collect_runs
from growmas.sweep.summary import as_data, read_runs, summarise
from growmas.terminal.comparison import render_comparison
from growmas.terminal.study import comma_separated, latex, markdown, render_study
from growmas.terminal.sweep import render_sweep

_FORMATS = {"markdown": markdown, "latex": latex, "csv": comma_separated}
_TESTS_AT_HAND = importlib.util.find_spec("scipy") is not None
FORMATS = ("table", *_FORMATS, "json")


def compare_runs(
    names: Sequence[str],
    root: Path,
    output: Output,
    *,
    format: str = "table",
    metric: str | None = None,
    baseline: str | None = None,
) -> None:
    """Print runs side by side; settings with several seeds with intervals and a paired test.

    Raises:
        RunError: A run or a setting does not exist, or none of them can be read.
    """
    if format not in FORMATS:
        raise RunError(f"unknown format {format!r}: expected {', '.join(FORMATS)}")
    if format == "json":
        output = replace(output, as_json=True)
    sweep = find_sweep(names[0], root) if len(names) == 1 else None
    asked = metric is not None or baseline is not None or format != "table"
    if sweep is not None and not asked and not any(run.result for run in read_runs(sweep)):
        _show_sweep(sweep, output)  # nothing has begun
        return
    found = collect_runs(names, root)
    settings = group_by_seed(found.triples)
    several = _TESTS_AT_HAND and any(len(each.runs) > 1 for each in settings)
    study = None
    if asked or (several and not (sweep and output.as_json)):
        study = compare_settings(settings, metric=metric or "accuracy", baseline=baseline)
    if study is not None and format in _FORMATS:
        sys.stdout.write(_FORMATS[format](study))
    elif study is None and sweep is not None:
        _show_sweep(sweep, output)
    else:
        _show(names, found, study, output)


def _show(
    names: Sequence[str],
    found: Collection,
    study: Study | None,
    output: Output,
) -> None:
    comparison, problems = compare(run.result for run in found.runs), found.problems
    data = comparison.as_data()
    if study is not None:
        data["settings"] = study.as_data()
    if problems:
        data["unreadable"] = list(problems)
    output.show(
        lambda ascii: Group(
            render_study(study, ascii=ascii)
            if study is not None
            else render_comparison(comparison, ascii=ascii),
            *(Text(each) for each in problems),
        ),
        lambda: data,
        title=f"growmas compare {' '.join(names)}",
    )


def _show_sweep(folder: Path, output: Output) -> None:
    """Print the settings of a sweep side by side."""
    summary = summarise(read_runs(folder))
    output.show(
        lambda ascii: render_sweep(summary, ascii=ascii),
        lambda: as_data(summary),
        title=f"growmas compare {folder}",
    )
