"""Collections: the runs behind names, each once."""

from dataclasses import dataclass
from pathlib import Path

from growmas.runs.result import RunResult


@dataclass(frozen=True)
class CollectedRun:
    """A run that was named, or that is part of a sweep that was named.

    Attributes:
        name: As given, or that of its directory in the sweep.
        folder: Its directory, or the file of a bare history.
        result: What it reports.
    """

    name: str
    folder: Path
    result: RunResult


@dataclass(frozen=True)
class Collection:
    """Runs, each once.

    Attributes:
        runs: Those that can be read, with different names in their results.
        problems: Says why others cannot be read.
    """

    runs: tuple[CollectedRun, ...]
    problems: tuple[str, ...]

    @property
    def triples(self) -> list[tuple[str, Path, RunResult]]:
        """Name, folder and result of each run, as `growmas.runs.study.group_by_seed` takes them."""
        return [(run.name, run.folder, run.result) for run in self.runs]
