"""The commands that only read. None of them imports torch, and only exports import networkx."""

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.text import Text

from growmas.cli.output import Output
from growmas.errors import RunError
from growmas.history import TopologyHistory
from growmas.terminal import comparison, runs, shifts, sweep
from growmas.terminal.result import read_results

HISTORY = "history.db"


def show_shifts(name: str, root: Path, output: Output) -> None:
    """Print the loss of a task-free run with its shifts."""
    trace = shifts.read_trace(find_folder(name, root))
    output.show(
        lambda ascii: shifts.render_shifts(trace, ascii=ascii),
        lambda: shifts.as_data(trace),
        title=f"growmas shifts {name}",
    )


def compare_runs(names: Sequence[str], root: Path, output: Output) -> None:
    """Print runs side by side, or the settings of one sweep."""
    folder = sweep.find_sweep(names[0], root) if len(names) == 1 else None
    if folder is not None:
        show_sweep(folder, output)
        return
    results = [read_results(find_folder(name, root)) for name in names]
    if len({result.get("name") for result in results}) < len(results):
        results = [{**each, "name": name} for name, each in zip(names, results, strict=True)]
    output.show(
        lambda ascii: comparison.render_comparison(results, ascii=ascii),
        lambda: comparison.as_data(results),
        title=f"growmas compare {' '.join(names)}",
    )


def show_sweep(folder: Path, output: Output) -> None:
    """Print the settings of a sweep side by side."""
    summary = sweep.summarise(sweep.read_runs(folder))
    output.show(
        lambda ascii: sweep.render_sweep(summary, ascii=ascii),
        lambda: sweep.as_data(summary),
        title=f"growmas compare {folder}",
    )


def list_folder(folder: Path, output: Output) -> None:
    """Print the runs below a folder, the newest last."""
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}; growmas run CONFIG makes runs/NAME")
    found = [_listed(path.parent) for path in folder.rglob("metrics.json")]
    found.sort(key=lambda results: (results["started"], results["directory"]))
    nothing = f"there are no runs below {folder}; growmas run CONFIG makes runs/NAME"
    output.show(
        lambda ascii: runs.render_runs(found, ascii=ascii) if found else Text(nothing),
        lambda: runs.as_data(found),
        title=f"growmas ls {folder}",
    )


def _listed(folder: Path) -> dict[str, Any]:
    results = read_results(folder)
    started = results.get("started")
    if not isinstance(started, int | float):
        raise RunError(f"the metrics of {folder} lack started: run it again")
    return {**results, "directory": str(folder), "started": _moment(started)}


def open_history(name: str, root: Path) -> TopologyHistory:
    """The history of a run: a run directory, its name below `root`, or the file itself.

    Raises:
        RunError: If there is no such run, with the nearest name, or it has no history.
        HistoryError: If the file is not a history that this growmas reads.
    """
    for path in (Path(name), root / name):
        if path.is_file():
            return TopologyHistory(path)
        if (path / HISTORY).is_file():
            return TopologyHistory(path / HISTORY)
    if Path(name).exists():
        raise RunError(f"{name} is not a run directory: it has no {HISTORY}")
    raise _unknown(name, root, HISTORY)


def find_folder(name: str, root: Path) -> Path:
    """The directory of a run: given by its path, or by its name below `root`.

    Raises:
        RunError: If there is no such run, with the nearest name.
    """
    for folder in (Path(name), root / name):
        if (folder / "metrics.json").is_file():
            return folder
    if (group := sweep.find_sweep(name, root)) is not None:
        raise RunError(f"{name} is a sweep: compare it alone, or its runs by {group}/*=*")
    if Path(name).exists():
        raise RunError(f"{name} is not a run directory: it has no metrics.json")
    raise _unknown(name, root, "metrics.json")


def _unknown(name: str, root: Path, mark: str) -> RunError:
    known = [str(path.parent.relative_to(root)) for path in root.rglob(mark)]
    near = get_close_matches(name.removeprefix(f"{root}/"), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "growmas ls lists the runs there are"
    return RunError(f"there is no run {name!r}; {hint}")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
