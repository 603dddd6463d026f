"""The runs that the browser shows: those named, and those found below folders as they begin."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from growmas.runs.finding import HISTORY, SWEEP


@dataclass(frozen=True)
class Place:
    """Place of a run.

    Attributes:
        name: Name in the list of runs.
        path: File of its history.
        sweep: Folder of the sweep that it belongs to; None for a run of its own.
    """

    name: str
    path: Path
    sweep: Path | None = None


@dataclass(frozen=True)
class FoundRuns:
    """Runs that were named, and all runs below some folders.

    Attributes:
        named: Runs that are always shown.
        folders: Folders that are searched at every look.
        root: Folder that names are relative to.
    """

    named: Sequence[Place] = ()
    folders: Sequence[Path] = ()
    root: Path = Path()
    _planned: dict[Path, tuple[object, tuple[str, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def look(self) -> tuple[Place, ...]:
        """Return the named runs and those that are below the folders now, each once."""
        found = {place.path.resolve(): place for place in self.named}
        for folder in self.folders:
            for place in self._below(folder, None):
                found.setdefault(place.path.resolve(), place)
        return tuple(found.values())

    def _below(self, folder: Path, sweep: Path | None) -> Iterator[Place]:
        """Yield the runs below a folder; a run is not searched for other runs."""
        try:
            with os.scandir(folder) as entries:
                names = {entry.name: entry.is_dir() for entry in entries}
        except OSError:  # deleted, or not to be read
            return
        if HISTORY in names:
            yield Place(_name(folder, self.root), folder / HISTORY, sweep)
            return
        if SWEEP in names:
            sweep = folder
            for run in self._runs_of(folder):
                yield Place(_name(folder / run, self.root), folder / run / HISTORY, folder)
        for name in sorted(name for name, is_folder in names.items() if is_folder):
            yield from self._below(folder / name, sweep)

    def _runs_of(self, sweep: Path) -> tuple[str, ...]:
        """Return the names of all runs of a sweep, those that wait included."""
        path = sweep / SWEEP
        try:
            found = path.stat()
            stamp = found.st_mtime_ns, found.st_size
            if sweep not in self._planned or self._planned[sweep][0] != stamp:
                runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
                self._planned[sweep] = stamp, tuple(str(run["name"]) for run in runs)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ()
        return self._planned[sweep][1]


def _name(folder: Path, root: Path) -> str:
    try:
        return str(folder.relative_to(root))
    except ValueError:
        return str(folder)
