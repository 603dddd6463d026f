"""The commands that only read: `show`, `compare`, `ls`. None of them imports torch."""

import json
from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.console import Console

from growmas.errors import RunError
from growmas.history import TopologyHistory
from growmas.terminal import comparison, runs, shifts, topology


def show_run(name: str, *, root: Path, as_json: bool, ascii: bool, width: int | None) -> None:
    """Print the topology of a run."""
    with TopologyHistory(_find(name, root) / "history.db") as history:
        if as_json:
            _print_json(topology.as_data(history))
        else:
            console, plain = _console(ascii, width)
            console.print(topology.render_history(history, ascii=plain))


def show_shifts(name: str, *, root: Path, as_json: bool, ascii: bool, width: int | None) -> None:
    """Print the loss of a task-free run with its shifts."""
    trace = shifts.read_trace(_find(name, root))
    if as_json:
        _print_json(shifts.as_data(trace))
    else:
        console, plain = _console(ascii, width)
        console.print(shifts.render_shifts(trace, ascii=plain))


def compare_runs(
    names: Sequence[str], *, root: Path, as_json: bool, ascii: bool, width: int | None
) -> None:
    """Print runs side by side."""
    results = [_results(_find(name, root)) for name in names]
    if as_json:
        _print_json(comparison.as_data(results))
    else:
        console, plain = _console(ascii, width)
        console.print(comparison.render_comparison(results, ascii=plain))


def list_folder(folder: Path, *, as_json: bool, ascii: bool, width: int | None) -> None:
    """Print the runs below a folder, the newest last."""
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}; growmas run CONFIG makes runs/NAME")
    found = [
        {**results, "directory": str(path.parent), "started": _moment(results["started"])}
        for path in folder.rglob("metrics.json")
        for results in [_results(path.parent)]
    ]
    found.sort(key=lambda results: (results["started"], results["directory"]))
    if as_json:
        _print_json(runs.as_data(found))
    else:
        console, plain = _console(ascii, width)
        console.print(runs.render_runs(found, ascii=plain))


def _find(name: str, root: Path) -> Path:
    for folder in (Path(name), root / name):
        if (folder / "metrics.json").is_file():
            return folder
    if Path(name).exists():
        raise RunError(f"{name} is not a run directory: it has no metrics.json")
    known = [str(path.parent.relative_to(root)) for path in root.rglob("metrics.json")]
    near = get_close_matches(name.removeprefix(f"{root}/"), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "growmas ls lists the runs there are"
    raise RunError(f"there is no run {name!r}; {hint}")


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({error}): run the experiment again") from error
    if not isinstance(results, dict):
        raise RunError(f"{path} does not hold the metrics of a run: run the experiment again")
    return results


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _console(ascii: bool, width: int | None) -> tuple[Console, bool]:
    """The console, and whether it can show ASCII only."""
    console = Console(width=width, highlight=False)
    return console, ascii or not console.encoding.lower().startswith("utf")


def _print_json(data: object) -> None:
    Console(soft_wrap=True, highlight=False, markup=False).print(json.dumps(data, indent=1))
