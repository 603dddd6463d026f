"""A run that the browser follows; its file is opened again if it was replaced."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from growmas.browser.board import Board, read_board
from growmas.errors import GrowmasError, HistoryError
from growmas.history import TopologyHistory
from growmas.history.records import EventRecord
from growmas.runs.curves import CurvePoint, read_curves
from growmas.runs.finding import HISTORY
from growmas.runs.listing import RunEntry, read_entry
from growmas.runs.progress import Progress, read_progress
from growmas.runs.result import METRICS
from growmas.runs.status import STATUS
from growmas.terminal.curves import remaining

_SEEN = 0.05  # part of a run whose pace tells how long the rest takes
EMPTY = Board((), False, {}, (), {}, (), ())


@dataclass(eq=False)
class WatchedRun:
    """One run.

    Attributes:
        name: Name in the list of runs.
        path: File of its history, which may not exist yet.
        sweep: Folder of the sweep that it belongs to; None for a run of its own.
        board: Board as last read.
        trouble: Message of the error if nothing could be read, else None.
        entry: Result and status as last read; None for a history without a metrics.json.
        curves: Points of its curves as last read, once it was chosen.
        progress: How much of it is done; None without a result.
    """

    name: str
    path: Path
    sweep: Path | None = None
    board: Board = EMPTY
    trouble: str | None = None
    entry: RunEntry | None = None
    curves: Sequence[CurvePoint] = ()
    progress: Progress | None = None
    _paces: list[tuple[float, float]] = field(default_factory=list, repr=False)
    _stamp: object = field(default=None, repr=False)
    _history: TopologyHistory | None = None
    _events: dict[str, list[EventRecord]] | None = field(default=None, repr=False)
    _seen: tuple[int, int] | None = field(default=None, repr=False)

    @property
    def history(self) -> TopologyHistory | None:
        """The open history; None if the file could not be read."""
        return self._history

    def events(self, task: int) -> Sequence[EventRecord]:
        """Return the events of a task without its beginning and snapshots.

        Raises:
            HistoryError: If the file cannot be read.
        """
        if self._history is None:
            return ()
        if self._events is None:
            self._events = {}
            for event in self._history.log():
                if event.kind not in ("begin", "snapshot"):
                    self._events.setdefault(event.task, []).append(event)
        return self._events.get(self.board.tasks[task], ())

    def refresh(self) -> bool:
        """Read again if the file has changed; return True if something is new."""
        try:
            state = self._state()
            if state == self._seen:
                return False
            if self._history is None:  # not open, or another file of this name
                self._history = TopologyHistory(self.path)
                state = self._state()
            self.board, self.trouble = read_board(self._history), None
        except HistoryError as error:
            changed = self.trouble != str(error)
            self.close()
            self.board, self.trouble = EMPTY, str(error)
            return changed
        self._seen, self._events = state, None
        return True

    def close(self) -> None:
        """Close the file."""
        if self._history is not None:
            self._history.close()
        self._history, self._seen, self._events = None, None, None

    def _state(self) -> tuple[int, int]:
        """Return the file's inode and the version of its contents."""
        try:
            identity = os.stat(self.path).st_ino
        except OSError:
            identity = -1
        if self._seen is not None and identity != self._seen[0]:
            self.close()
        return identity, self._history.version if self._history else -1

    def look(self) -> bool:
        """Read result and status again if they may have changed; return True if they have."""
        folder = self.path.parent
        stamp = tuple(_stamp(folder / name) for name in (METRICS, STATUS))
        over = self.status != "running"
        if stamp == self._stamp and over:
            return False
        before, self._stamp = self.entry, stamp
        own = self.path.name == HISTORY and stamp[0] is not None
        self.entry = read_entry(folder) if own else None
        return self.entry != before

    @property
    def status(self) -> str:
        """Status as `growmas ls` has it; without a metrics.json "waiting", or "history"."""
        if self.entry is None:
            return "history" if self.sweep is None else "waiting"
        return self.entry.status or "unreadable"

    @property
    def accuracy(self) -> float | None:
        """ACC over the tasks learnt so far; None before the first, or without a result."""
        result = self.entry.result if self.entry else None
        return result.average_accuracy if result else None

    @property
    def remark(self) -> str:
        """Status unless it is finished, number of tasks and accuracy, in a few words."""
        result = self.entry.result if self.entry else None
        if result is None:
            return self.status
        parts = [] if result.finished else [self.status]
        parts.append(f"{result.learnt}/{len(result.tasks)}")
        parts += [] if self.accuracy is None else [f"{100 * self.accuracy:.1f}%"]
        return " ".join(parts)

    def study(self) -> None:
        """Read the curves and how much is done."""
        try:
            self.curves = read_curves(self.path.parent if self.entry else self.path)
        except GrowmasError:  # none yet
            self.curves = ()
        result = self.entry.result if self.entry else None
        self.progress = read_progress(self.path.parent, result, self.curves) if result else None
        share = self.progress.share if self.progress else None
        if share is not None and (not self._paces or self._paces[-1][1] != share):
            self._paces.append((time.time(), share))

    def left(self, now: float) -> str:
        """Return in words how long the run goes on; "" where that is not known.

        The pace is the one seen since the browser watches, or, before a twentieth of the run was
        seen, the pace since the run was started.
        """
        if self.status != "running" or not self._paces:
            return ""
        (first, begun), (last, share) = self._paces[0], self._paces[-1]
        if share - begun >= _SEEN:
            pace = (last - first) / (share - begun)
            return remaining(share, max(0.0, pace * share))
        started = self.entry.result.started if self.entry and self.entry.result else None
        return "" if started is None else remaining(share, now - started)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return the time and the size of a file; None where it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
