"""The runs that the browser follows: new ones are taken in, deleted ones are let go."""

from collections.abc import Callable, Sequence
from pathlib import Path

from growmas.browser.found_runs import Place
from growmas.browser.watched_run import WatchedRun

NOTHING = WatchedRun("no run yet", Path("history.db"))
"""Stands for the run that is shown while there is none."""


class FollowedRuns:
    """Runs in the order in which they were found.

    Attributes:
        runs: All of them, with their status as last read.
        searching: True if runs that begin later are taken in.

    Args:
        runs: Runs that are there from the start.
        find: Returns the places of all runs that there are now; None to keep to `runs`.
    """

    def __init__(
        self, runs: Sequence[WatchedRun], find: Callable[[], Sequence[Place]] | None
    ) -> None:
        self.runs = list(runs)
        self.searching = find is not None
        self._find = find
        self.look()

    @property
    def first(self) -> WatchedRun:
        """The first run, or what stands for it while there is none."""
        return self.runs[0] if self.runs else NOTHING

    def look(self) -> list[WatchedRun]:
        """Look for runs that are new or gone, and read each status; return those it changed of."""
        if self._find is not None:
            self._take(self._find())
        return [run for run in self.runs if run.look()]

    def _take(self, places: Sequence[Place]) -> None:
        known = {run.path: run for run in self.runs}
        paths = {place.path for place in places}
        for path, run in known.items():
            if path not in paths:
                run.close()
        self.runs = [run for run in self.runs if run.path in paths]
        self.runs += [
            WatchedRun(place.name, place.path, place.sweep)
            for place in places
            if place.path not in known
        ]

    def close(self) -> None:
        """Close all files."""
        for run in self.runs:
            run.close()
