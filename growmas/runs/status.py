"""Status of a run: whether it goes on, and why it ended.

`status.json` says what the process of a run last reported, with a heartbeat; whether it goes on is
told by the lock of the directory.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from growmas.runs.lock import is_locked
from growmas.runs.result import RunResult

STATUS = "status.json"
BEAT = 10.0
"""Seconds from one heartbeat to the next, at least."""
SILENCE = 600.0
"""Seconds without a heartbeat after which a run on another machine counts as stopped."""

Word = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class RunStatus:
    """The last report of a run.

    Attributes:
        status: "running" until it ends; then "finished", "stopped" or "failed".
        reason: Why it was stopped or has failed, else "".
        host: Name of its machine.
        pid: Of its process.
        heartbeat: Seconds since the epoch of the report.
    """

    status: Word
    reason: str
    host: str
    pid: int
    heartbeat: float


class StatusWriter:
    """Reports the status of a run.

    Args:
        folder: The run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._beat = 0.0

    def beat(self) -> None:
        """Report that the run goes on, every few seconds."""
        if time.monotonic() - self._beat >= BEAT:
            self._beat = time.monotonic()
            self.report("running")

    def report(self, status: Word, reason: str = "") -> None:
        """Replace the report; a disk without room loses it, and the run goes on."""
        said = RunStatus(status, reason, socket.gethostname(), os.getpid(), time.time())
        fresh = self._folder / f".{STATUS}.new"
        try:
            fresh.write_text(json.dumps(asdict(said)), encoding="utf-8")
            fresh.replace(self._folder / STATUS)
        except OSError:
            return


def read_status(folder: Path, result: RunResult | None = None) -> tuple[str, str]:
    """Return the status of a run, and the reason why it was stopped or has failed.

    Args:
        folder: The run directory.
        result: Of the run, if it can be read.

    Returns:
        "running", "finished", "stopped" or "failed"; "unfinished" for a run of an earlier growmas
        that reported nothing. The reason may be "".
    """
    if result is not None and result.finished:
        return "finished", ""
    said = _read(folder / STATUS)
    if is_locked(folder):
        return "running", ""
    if said is None:
        return "unfinished", ""
    if said.status == "running":
        elsewhere = said.host != socket.gethostname()
        if elsewhere and time.time() - said.heartbeat < SILENCE:
            return "running", f"on {said.host}"
        seen = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said.heartbeat))
        return "stopped", f"its process was killed; its last heartbeat was at {seen}"
    return said.status, said.reason


def _read(path: Path) -> RunStatus | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return RunStatus(
            values["status"] if values["status"] in ("running", "stopped", "failed") else "running",
            str(values["reason"]),
            str(values["host"]),
            int(values["pid"]),
            min(max(float(values["heartbeat"]), 0.0), 4e9),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
