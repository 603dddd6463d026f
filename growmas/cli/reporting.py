"""`growmas report`; it never imports torch."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from growmas.cli.reading import open_history
from growmas.errors import GrowmasError, GrowmasWarning, RunError
from growmas.report import (
    RunSummary,
    StudySummary,
    read_study,
    read_summary,
    write_figures,
    write_report,
)
from growmas.runs import read_result
from growmas.runs.finding import HISTORY, find_sweep
from growmas.runs.result import METRICS
from growmas.sweep.collecting import collect_runs
from growmas.visible import visible


def report(
    names: Sequence[str],
    root: Path,
    *,
    out: Path | None,
    figures: Path | None,
    png: bool,
    overwrite: bool,
) -> None:
    """Write the page, or the figures, or both, and print their paths."""
    if png and figures is None:
        raise RunError("--png needs --figures FOLDER, the place for the figures")
    study = any(find_sweep(name, root) for name in names)
    runs = _study(names, root) if study else _runs(names, root)
    console = Console(highlight=False, soft_wrap=True)
    if out is not None or figures is None:
        page = out or Path(f"{_stem(runs)}.html")
        write_report(runs, page, overwrite=overwrite)
        text = f"written to {page}; open it in any browser"
        console.print(visible(text), markup=False)
    if figures is not None:
        paths = write_figures(runs, figures, png=png, overwrite=overwrite)
        console.print(visible(f"{len(paths)} figures written to {figures}"), markup=False)


def _study(names: Sequence[str], root: Path) -> StudySummary:
    """Read the settings of sweeps, and of runs that are named with them."""
    title = " and ".join(Path(name).name for name in names)
    return read_study(collect_runs(names, root), title)


def _runs(names: Sequence[str], root: Path) -> list[RunSummary]:
    names, found = _readable(names, root)
    return _told_apart(found, names)


def _readable(names: Sequence[str], root: Path) -> tuple[list[str], list[RunSummary]]:
    """Read runs; those that cannot be read are left out with a warning, unless all are.

    Raises:
        GrowmasError: None of them can be read.
    """
    found: list[tuple[str, RunSummary]] = []
    for i, name in enumerate(names):
        try:
            found.append((name, _read(name, root)))
        except GrowmasError as error:
            if not found and i == len(names) - 1:
                raise
            warnings.warn(f"{name} is left out: {error}", GrowmasWarning, stacklevel=1)
    return [name for name, _ in found], [run for _, run in found]


def _read(name: str, root: Path) -> RunSummary:
    with open_history(name, root) as history:
        folder = history.path.parent
        result = read_result(folder) if (folder / METRICS).is_file() else None
        title = folder.name if history.path.name == HISTORY else history.path.stem
        return read_summary(history, result.name if result else title, results=result)


def _told_apart(runs: Sequence[RunSummary], names: Sequence[str]) -> list[RunSummary]:
    """Give runs different names: those on the command line, where needed."""
    if len({run.name for run in runs}) == len(runs):
        return list(runs)
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _stem(runs: Sequence[RunSummary] | StudySummary) -> str:
    """Return the name of the page where none is given."""
    if not isinstance(runs, StudySummary) and len(runs) > 1:
        return "report"
    name = runs.name if isinstance(runs, StudySummary) else runs[0].name
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name) + "-report"
