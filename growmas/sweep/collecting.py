"""The runs behind names on the command line: runs, histories, and sweeps taken apart."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from growmas.errors import RunError
from growmas.paths import as_path
from growmas.runs import find_run, read_result
from growmas.runs.collection import CollectedRun, Collection
from growmas.runs.finding import HISTORY, find_sweep
from growmas.runs.own_history import read_own_result
from growmas.sweep.summary import read_runs


def collect_runs(
    names: Sequence[str | PathLike[str]], root: str | PathLike[str] = "runs"
) -> Collection:
    """Return each run once, sweeps taken apart, and why some cannot be read.

    Args:
        names: Run directories, histories, sweeps, or their names below `root`.
        root: Folder of all runs.

    Raises:
        RunError: A run does not exist, none of them can be read, a sweep has no run with a result
            yet, or `names` is not a list.
    """
    if isinstance(names, str | bytes | PathLike) or not isinstance(names, Iterable):
        raise RunError(f"expected a list of runs and sweeps, got {names!r:.80}")
    root = as_path(root, RunError, "a folder of runs")
    found: list[CollectedRun] = []
    problems: list[str] = []
    seen: set[Path] = set()
    given = [os.fspath(as_path(name, RunError, "a run or a sweep")) for name in names]
    for name in given:
        sweep = find_sweep(name, root)
        if sweep is None:
            folders = [(name, _run_or_history(name, root))]
        else:
            folders = [(run.name, sweep / run.name) for run in read_runs(sweep) if run.result]
        for run, folder in folders:
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            try:
                read = read_result if folder.is_dir() else read_own_result
                found.append(CollectedRun(run, folder, read(folder)))
            except RunError as error:
                problems.append(f"{folder}: unreadable: {error}")
    if not found:
        none = f"{' and '.join(given) or 'no name'} has no run with a result yet"
        raise RunError("\n".join(problems) or none)
    if len({run.result.name for run in found}) < len(found):
        found = [replace(run, result=replace(run.result, name=run.name)) for run in found]
    return Collection(tuple(found), tuple(problems))


def _run_or_history(name: str, root: Path) -> Path:
    """Return the directory of a run, or the history that a loop of one's own wrote.

    Raises:
        RunError: There is neither.
    """
    try:
        return find_run(name, root)
    except RunError:
        for path in (Path(name), root / name):
            if path.is_file():
                return path
            if (path / HISTORY).is_file():
                return path / HISTORY
        raise
