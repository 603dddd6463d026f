"""The runs below a folder."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from growmas.errors import RunError
from growmas.runs.result import METRICS, RunResult, read_result
from growmas.runs.status import read_status


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


def list_runs(folder: Path) -> tuple[RunEntry, ...]:
    """Read the runs below a folder, the newest last; one that cannot be read says why.

    Raises:
        RunError: The folder does not exist.
    """
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}; growmas run CONFIG makes runs/NAME")
    return in_order(_entry(path.parent) for path in folder.rglob(METRICS))


def in_order(entries: Iterable[RunEntry]) -> tuple[RunEntry, ...]:
    """Sort entries by start and name, those that cannot be read first."""
    return tuple(sorted(entries, key=lambda entry: (entry.started, entry.directory)))


def _entry(folder: Path) -> RunEntry:
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
