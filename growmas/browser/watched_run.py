"""A run that the browser follows; its file is opened again if it was replaced."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from growmas.browser.board import Board, read_board
from growmas.errors import DataError, HistoryError
from growmas.history import TopologyHistory
from growmas.history.records import EventRecord
from growmas.metrics import average_accuracy

EMPTY = Board((), False, {}, (), {}, (), ())


@dataclass
class WatchedRun:
    """One run.

    Attributes:
        name: Name in the list of runs.
        path: File of its history, which may not exist yet.
        board: Board as last read.
        trouble: Message of the error if nothing could be read, else None.
    """

    name: str
    path: Path
    board: Board = EMPTY
    trouble: str | None = None
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

    @property
    def remark(self) -> str:
        """Method, number of tasks and accuracy; "history" without a metrics.json."""
        try:
            results = json.loads((self.path.parent / "metrics.json").read_text(encoding="utf-8"))
            rows, tasks = results["accuracy"], len(results["tasks"])
            parts = [results["method"], f"{len(rows)}/{tasks}"]
            if rows:
                parts.append(f"{100 * average_accuracy(rows):.1f}%")
        except (OSError, ValueError, KeyError, TypeError, DataError):
            return "history"
        return " · ".join(parts)
