"""Sessions of the processes of a data-parallel run that follow process 0 and write nothing."""

from collections.abc import Mapping
from typing import Any

from growmas.closeable import Closeable
from growmas.experiment.session import Session, State
from growmas.runs import RunResult
from growmas.structure import Structure


class NoTracker(Closeable):
    """A tracker that writes nothing."""

    last_event = 0

    def scalars(self, values: Mapping[str, float], **at: Any) -> None:
        """Write nothing."""

    def snapshot(self, task: str | None = None, **facts: Any) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""


class FollowingSession(Session):
    """A run as a process sees it whose results process 0 writes."""

    def begin(self, result: RunResult) -> None:
        """Keep the first result."""
        self._result = result

    def open_history(self, structure: Structure, state: State | None) -> Any:
        """Return a tracker that writes nothing."""
        return NoTracker()

    def tell_begun(self, step: int, *, resumed: bool, ended: bool) -> None:
        """Tell nothing."""

    def update(self, result: RunResult) -> None:
        """Keep the result."""
        self._result = result

    def save(self, state: State, tracker: Any, extra: State) -> None:
        """Write nothing."""

    def beat(self) -> None:
        """Report nothing."""

    def ended(self, error: BaseException | None) -> None:
        """Report nothing."""
