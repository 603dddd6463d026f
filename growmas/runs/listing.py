"""The runs below a folder."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from growmas.errors import RunError
from growmas.paths import as_path
from growmas.runs.directory import CONFIG, read_run_id
from growmas.runs.result import METRICS, RunResult, read_result
from growmas.runs.status import read_status
from growmas.suggestion import suggestion


@dataclass(frozen=True)
class RunEntry:
    """A run and its place.

    Attributes:
        directory: As it should be printed.
        started: Local time, as it should be printed.
        result: What the run reports; None if it cannot be read.
        problem: Why it cannot be read; "" if it can.
        status: "running", "finished", "stopped" or "failed"; "unfinished" for an older run.
        reason: Why it was stopped or has failed, else "".
    """

    directory: str
    started: str
    result: RunResult | None
    problem: str = ""
    status: str = ""
    reason: str = ""

    def as_data(self) -> dict[str, object]:
        """Return the entry as a JSON-ready dict."""
        result = self.result
        if result is None:
            return {"directory": self.directory, "status": "unreadable", "problem": self.problem}
        return {
            "directory": self.directory,
            "name": result.name,
            "method": result.method,
            "stream": result.stream,
            "scenario": result.scenario,
            "seed": result.seed,
            "started": self.started,
            "status": self.status or result.status,
            "reason": self.reason,
            "tasks_learnt": result.learnt,
            "tasks": len(result.tasks),
            "average_accuracy": result.average_accuracy,
        }


def _accuracy(entry: RunEntry) -> float:
    accuracy = entry.result.average_accuracy if entry.result else None
    return -1.0 if accuracy is None else accuracy


SORTS: Mapping[str, Callable[[RunEntry], Any]] = {
    "started": lambda entry: entry.started,
    "name": lambda entry: entry.directory,
    "method": lambda entry: entry.result.method if entry.result else "",
    "seed": lambda entry: entry.result.seed if entry.result else 0,
    "accuracy": _accuracy,
    "status": lambda entry: entry.status,
}
"""Key -> what runs are sorted by, the smallest first."""


def list_runs(folder: str | PathLike[str]) -> tuple[RunEntry, ...]:
    """Read the runs below a folder, the newest last; one that cannot be read says why.

    A run is a folder with `metrics.json`, or with the config of a run.

    Raises:
        RunError: The folder does not exist.
    """
    folder = as_path(folder, RunError, "a folder of runs")
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}; growmas run CONFIG makes runs/NAME")
    runs = {path.parent for path in folder.rglob(METRICS)}
    runs |= {path.parent for path in folder.rglob(CONFIG) if read_run_id(path.parent)}
    return in_order(read_entry(path) for path in runs)


def select(
    entries: Iterable[RunEntry], *, sort: str = "started", words: Sequence[str] = ()
) -> tuple[RunEntry, ...]:
    """Return the runs that all words occur in, sorted; unreadable ones first.

    Args:
        entries: Runs.
        sort: A key of `SORTS`; runs without a value come first.
        words: Each has to occur in directory, method, stream, scenario or status.

    Raises:
        RunError: The key does not exist.
    """
    if sort not in SORTS:
        raise RunError(f"cannot sort by {sort!r}; {suggestion(sort, SORTS, 'key')}")
    key = SORTS[sort]
    kept = [entry for entry in in_order(entries) if _mentions(entry, words)]
    return tuple(sorted(kept, key=lambda entry: (entry.result is not None, key(entry))))


def _mentions(entry: RunEntry, words: Sequence[str]) -> bool:
    data = entry.as_data()
    fields = (data.get(key, "") for key in ("directory", "method", "stream", "scenario", "status"))
    text = " ".join(map(str, fields)).lower()
    return all(word.lower() in text for word in words)


def in_order(entries: Iterable[RunEntry]) -> tuple[RunEntry, ...]:
    """Sort entries by start and name, those that cannot be read first."""
    return tuple(sorted(entries, key=lambda entry: (entry.started, entry.directory)))


def read_entry(folder: Path) -> RunEntry:
    """Read a run; one that cannot be read says why."""
    try:
        result = read_result(folder)
        if result.started is None:
            raise RunError(f"the metrics of {folder} lack started: run it again")
        status, reason = read_status(folder, result)
        started = _moment(result.started)
        return RunEntry(str(folder), started, result, status=status, reason=reason)
    except RunError as error:
        return RunEntry(str(folder), "", None, f"{folder}: {error}")


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError) as error:
        raise RunError(f"started={seconds!r} is not a time: run it again") from error
