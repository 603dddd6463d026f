"""Runs found by their path, or by their name below the folder of all runs."""

from pathlib import Path

from growmas.errors import RunError
from growmas.runs.result import METRICS
from growmas.suggestion import closest

HISTORY = "history.db"
SWEEP = "sweep.json"


def find_run(name: str, root: Path) -> Path:
    """Return the directory of a run, given by its path or its name below `root`.

    Raises:
        RunError: The run does not exist; names the nearest.
    """
    for folder in (Path(name), root / name):
        if (folder / METRICS).is_file():
            return folder
    if (group := find_sweep(name, root)) is not None:
        raise RunError(f"{name} is a sweep: compare it alone, or its runs by {group}/*=*")
    if Path(name).exists():
        raise RunError(f"{name} is not a run directory: it has no {METRICS}")
    raise _unknown(name, root, METRICS)


def find_directory(name: str, root: Path) -> Path:
    """Return a directory, given by its path or its name below `root`, whatever it holds.

    Raises:
        RunError: It does not exist.
    """
    for folder in (Path(name), root / name):
        if folder.is_dir():
            return folder
    raise _unknown(name, root, METRICS)


def find_history(name: str, root: Path) -> Path:
    """Return the history of a run, given by its directory, its name below `root`, or the file.

    Raises:
        RunError: The run does not exist (names the nearest), or has no history.
    """
    for path in (Path(name), root / name):
        if path.is_file():
            return path
        if (path / HISTORY).is_file():
            return path / HISTORY
    if Path(name).exists():
        raise RunError(f"{name} is not a run directory: it has no {HISTORY}")
    raise _unknown(name, root, HISTORY)


def find_sweep(name: str, root: Path) -> Path | None:
    """Return the folder of a sweep, given by its path or its name below `root`; else None."""
    for folder in (Path(name), root / name):
        if (folder / SWEEP).is_file():
            return folder
    return None


def _unknown(name: str, root: Path, mark: str) -> RunError:
    known = [str(path.parent.relative_to(root)) for path in root.rglob(mark)]
    near = closest(name.removeprefix(f"{root}/"), known)
    hint = f"did you mean {near!r}?" if near else "growmas ls lists the runs there are"
    return RunError(f"there is no run {name!r}; {hint}")
