"""Runs found by their path, or by their name below the folder of all runs."""

import shlex
from os import PathLike
from pathlib import Path

from growmas.errors import RunError
from growmas.paths import as_path
from growmas.runs.result import METRICS
from growmas.suggestion import closest

HISTORY = "history.db"
SWEEP = "sweep.json"


def find_run(name: str | PathLike[str], root: str | PathLike[str]) -> Path:
    """Return the directory of a run, given by its path or its name below `root`.

    Raises:
        RunError: The run does not exist; names the nearest.
    """
    given, root = _paths(name, root)
    for folder in (given, root / given):
        if (folder / METRICS).is_file():
            return folder
    _refuse_sweep(given, root)
    if given.exists():
        raise RunError(f"{name} is not a run directory: it has no {METRICS}")
    raise _unknown(str(name), root, METRICS)


def find_directory(name: str | PathLike[str], root: str | PathLike[str]) -> Path:
    """Return a directory, given by its path or its name below `root`, whatever it holds.

    Raises:
        RunError: It does not exist, or is a sweep.
    """
    given, root = _paths(name, root)
    _refuse_sweep(given, root)
    for folder in (given, root / given):
        if folder.is_dir():
            return folder
    if given.exists():
        raise RunError(f"{name} is a file: give the directory of a run")
    raise _unknown(str(name), root, METRICS)


def find_history(name: str | PathLike[str], root: str | PathLike[str]) -> Path:
    """Return the history of a run, given by its directory, its name below `root`, or the file.

    Raises:
        RunError: The run does not exist (names the nearest), or has no history.
    """
    given, root = _paths(name, root)
    for path in (given, root / given):
        if path.is_file():
            return path
        if (path / HISTORY).is_file():
            return path / HISTORY
    _refuse_sweep(given, root)
    if given.exists():
        raise RunError(f"{name} is not a run directory: it has no {HISTORY}")
    raise _unknown(str(name), root, HISTORY)


def find_sweep(name: str | PathLike[str], root: str | PathLike[str]) -> Path | None:
    """Return the folder of a sweep, given by its path or its name below `root`; else None."""
    given, root = _paths(name, root)
    for folder in (given, root / given):
        if (folder / SWEEP).is_file():
            return folder
    return None


def _paths(name: object, root: object) -> tuple[Path, Path]:
    return as_path(name, RunError, "a run"), as_path(root, RunError, "a folder of runs")


def _refuse_sweep(name: Path, root: Path) -> None:
    """Refuse a sweep where one run is meant; names one of its runs.

    Raises:
        RunError: It is a sweep.
    """
    sweep = find_sweep(name, root)
    if sweep is None:
        return
    runs = sorted(path.parent for path in sweep.glob(f"*/{METRICS}"))
    which = f"one of its runs, such as {shlex.quote(str(runs[0]))}, or" if runs else "a run, or"
    compared = f"growmas compare {shlex.quote(str(name))}"
    raise RunError(f"{name} is a sweep: name {which} see all of them with: {compared}")


def _unknown(name: str, root: Path, mark: str) -> RunError:
    known = [str(path.parent.relative_to(root)) for path in root.rglob(mark)]
    near = closest(name.removeprefix(f"{root}/"), known)
    hint = f"did you mean {near!r}?" if near else "growmas ls lists the runs there are"
    return RunError(f"there is no run {name!r}; {hint}")
