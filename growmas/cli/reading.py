"""The commands that only read runs; none of them imports torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Group
from rich.text import Text

from growmas.cli.output import Output
from growmas.errors import RunError
from growmas.history import TopologyHistory
from growmas.runs import (
    RunResult,
    compare,
    find_history,
    find_run,
    list_runs,
    read_result,
    read_trace,
)
from growmas.runs.finding import HISTORY, find_sweep
from growmas.runs.own_history import read_own_result
from growmas.sweep.summary import as_data, read_runs, summarise
from growmas.terminal import shifts
from growmas.terminal.comparison import render_comparison
from growmas.terminal.runs import render_runs
from growmas.terminal.sweep import render_sweep


def open_history(name: str, root: Path) -> TopologyHistory:
    """Open the history of a run, given by its directory, its name below `root`, or the file.

    Raises:
        RunError: The run does not exist (names the nearest), or has no history.
        HistoryError: The file is not a history that this growmas reads.
    """
    return TopologyHistory(find_history(name, root))


def show_shifts(name: str, root: Path, output: Output) -> None:
    """Print the loss of a task-free run with its shifts."""
    trace = read_trace(find_run(name, root))
    output.show(
        lambda ascii: shifts.render_shifts(trace, ascii=ascii),
        lambda: shifts.as_data(trace),
        title=f"growmas shifts {name}",
    )


def compare_runs(names: Sequence[str], root: Path, output: Output) -> None:
    """Print runs side by side, or the settings of one sweep."""
    folder = find_sweep(names[0], root) if len(names) == 1 else None
    if folder is not None:
        show_sweep(folder, output)
        return
    readable, results, problems = _readable(names, root)
    if len({result.name for result in results}) < len(results):
        results = [replace(each, name=name) for name, each in zip(readable, results, strict=True)]
    comparison = compare(results)
    output.show(
        lambda ascii: Group(
            render_comparison(comparison, ascii=ascii), *(Text(each) for each in problems)
        ),
        lambda: {**comparison.as_data(), **({"unreadable": problems} if problems else {})},
        title=f"growmas compare {' '.join(names)}",
    )


def _readable(names: Sequence[str], root: Path) -> tuple[list[str], list[RunResult], list[str]]:
    """Read runs, and say of those that cannot be read why; one at least must be readable.

    Raises:
        RunError: A run does not exist, or none of them can be read.
    """
    readable: list[str] = []
    results: list[RunResult] = []
    problems: list[str] = []
    for name, path in [(name, _run_or_history(name, root)) for name in names]:
        try:
            results.append(read_result(path) if path.is_dir() else read_own_result(path))
            readable.append(name)
        except RunError as error:
            problems.append(f"{path}: unreadable: {error}")
    if not results:
        raise RunError("\n".join(problems))
    return readable, results, problems


def _run_or_history(name: str, root: Path) -> Path:
    """Return the directory of a run, or the history that a loop of one's own wrote."""
    try:
        return find_run(name, root)
    except RunError:
        for path in (Path(name), root / name):
            if path.is_file():
                return path
            if (path / HISTORY).is_file():
                return path / HISTORY
        raise


def show_sweep(folder: Path, output: Output) -> None:
    """Print the settings of a sweep side by side."""
    summary = summarise(read_runs(folder))
    output.show(
        lambda ascii: render_sweep(summary, ascii=ascii),
        lambda: as_data(summary),
        title=f"growmas compare {folder}",
    )


def list_folder(folder: Path, output: Output) -> None:
    """Print the runs below a folder, the newest last."""
    found = list_runs(folder)
    nothing = f"there are no runs below {folder}; growmas run CONFIG makes runs/NAME"
    output.show(
        lambda ascii: render_runs(found, ascii=ascii) if found else Text(nothing),
        lambda: [entry.as_data() for entry in found],
        title=f"growmas ls {folder}",
    )
