"""The directory of one run: locked, made, checked and written."""

import json
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict
from os import PathLike
from pathlib import Path

from growmas.atomic_write import sync_disk
from growmas.config import Experiment, differing_keys, dump_config, load_config
from growmas.errors import ConfigError, RunError
from growmas.paths import as_path
from growmas.runs.curves import CURVES
from growmas.runs.finding import HISTORY
from growmas.runs.lock import LOCK, RunLock, refuse_locked
from growmas.runs.result import METRICS, RunResult, read_result
from growmas.runs.status import STATUS
from growmas.runs.trace import TRACE

CONFIG = "config.yaml"
CHECKPOINT = "checkpoint"
LOG = "log"

REMEDY = "restore a copy, or begin anew with --overwrite"
"""What to do about a file of a run that is lost or damaged."""

_ID = "# run "
_NEW = f".{METRICS}.new"
OWN_FILES = frozenset({
    CONFIG, METRICS, HISTORY, f"{HISTORY}-wal", f"{HISTORY}-shm", f"{HISTORY}-journal", CHECKPOINT,
    LOG, TRACE, CURVES, LOCK, STATUS, _NEW, f".{CONFIG}.new", f".{STATUS}.new",
})  # fmt: skip
"""Everything that a run writes; nothing else in its directory is ever touched."""


def new_run_id() -> str:
    """Return an id for a run."""
    return secrets.token_hex(8)


def read_run_id(folder: Path) -> str:
    """Return the id that the config of a run directory records; "" if it records none."""
    try:
        with (folder / CONFIG).open(encoding="utf-8") as file:
            first = file.readline().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return first.removeprefix(_ID) if first.startswith(_ID) else ""


class RunDirectory:
    """The files of one run.

    Attributes:
        path: Of the directory.
        run_id: Of the run that is written; "" before one is begun or resumed.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = as_path(path, RunError, "a run directory")
        self.run_id = ""
        self._named = False
        self._lock: RunLock | None = None

    @property
    def config(self) -> Path:
        """The experiment with all defaults."""
        return self.path / CONFIG

    @property
    def metrics(self) -> Path:
        """The result so far, rewritten after every task."""
        return self.path / METRICS

    @property
    def history(self) -> Path:
        """The topology, written as it changes."""
        return self.path / HISTORY

    @property
    def checkpoint(self) -> Path:
        """The last state."""
        return self.path / CHECKPOINT

    @property
    def trace(self) -> Path:
        """Losses and shifts of a task-free run, step by step."""
        return self.path / TRACE

    def check_new(self, *, overwrite: bool) -> None:
        """Refuse a path where a run cannot begin.

        Raises:
            RunError: Something is there; with `overwrite`, something that is not a run, or a run
                that another process goes on with.
        """
        if not self.path.exists():
            return
        if self._lock is None:
            refuse_locked(self.path)
        if not self.is_run():
            raise RunError(
                f"{self.path} exists and is not a run of growmas: name another with --out"
            )
        if not overwrite:
            raise RunError(
                f"{self.path} exists: name another with --out, or replace it with --overwrite"
            )

    @property
    def is_empty(self) -> bool:
        """True if the directory holds nothing but its lock."""
        return {each.name for each in self.path.iterdir()} <= {LOCK}

    def is_run(self) -> bool:
        """Return True for a directory that a run has begun, or an empty one."""
        if not self.path.is_dir():
            return False
        names = {each.name for each in self.path.iterdir()}
        if names <= OWN_FILES and (not names or LOCK in names or self._has_config()):
            return True
        try:
            self.read_result()
        except RunError:
            return LOCK in names and self.metrics.exists()
        return True

    def _has_config(self) -> bool:
        """Return True if the config is one of an experiment."""
        if read_run_id(self.path):
            return True
        try:
            load_config(self.config)
        except ConfigError:
            return False
        return True

    def check_resumable(self, experiment: Experiment) -> None:
        """Refuse to continue what is not a run, or a run of another experiment.

        Raises:
            RunError: Says what differs.
        """
        if not self.path.exists():
            return
        if not self.is_run():
            raise RunError(f"{self.path} is not a run that could be resumed: it has no {METRICS}")
        if not self.config.exists():
            if self.metrics.exists() or self.checkpoint.exists():
                raise RunError(
                    f"{self.path} has lost its {CONFIG}, which says what to continue: {REMEDY}"
                )
            return
        try:
            other = differing_keys(load_config(self.config), experiment)
        except ConfigError:
            if self.metrics.exists():
                raise
            return  # killed while the config was written
        if other:
            raise RunError(
                f"{self.path} was begun with another config: {', '.join(other)} differ; resume it "
                f"with growmas run {self.config} --out {self.path} --resume"
            )

    def lock(self) -> RunLock:
        """Make the directory if needed, and hold it; use the lock as a context manager.

        Raises:
            RunError: Another process holds it.
        """
        self._lock = RunLock(self.path, self.run_id)
        return self._lock

    def check_held(self) -> None:
        """Refuse to go on if the directory was moved or deleted.

        Raises:
            RunError: Says so.
        """
        if self._lock is not None:
            self._lock.check()

    def begin(self, experiment: Experiment, result: RunResult) -> None:
        """Write the config and the first result, in place of what an earlier run has left.

        Raises:
            RunError: It cannot be written.
        """
        self.check_held()
        try:
            self.clear()
            text = f"{_ID}{self.run_id}\n{dump_config(experiment)}"
            _replace(self.config, text)
        except OSError as error:
            raise self._unwritten(error) from error
        self.write_result(result)

    def clear(self) -> None:
        """Remove what an earlier run has left; the lock, and what is not ours, stay.

        Raises:
            RunError: Another process goes on with it.
        """
        if self._lock is None:
            refuse_locked(self.path)
        for name in (METRICS, *sorted(OWN_FILES - {METRICS, LOCK, CONFIG}), CONFIG):
            place = self.path / name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def read_result(self) -> RunResult:
        """Read the result so far.

        Raises:
            RunError: It cannot be read.
        """
        return read_result(self.path)

    def sync(self) -> None:
        """Wait until the history is on the disk, before a checkpoint that relies on it.

        SQLite syncs a transaction only when it moves it from the -wal file to the history.

        Raises:
            RunError: The disk has no room.
        """
        try:
            wal = self.path / f"{HISTORY}-wal"
            if wal.exists():
                sync_disk(wal)
            if not self._named:  # the names of its files, once
                sync_disk(self.path)
                self._named = True
        except OSError as error:
            self.check_held()
            raise self._unwritten(error) from error

    def write_result(self, result: RunResult) -> None:
        """Replace the result.

        Raises:
            RunError: It cannot be written, or the directory was moved or deleted.
        """
        self.check_held()
        try:
            _replace(self.metrics, json.dumps(asdict(result), indent=1))
        except OSError as error:
            self.check_held()
            raise self._unwritten(error) from error

    def leave_nothing(self) -> None:
        """Remove an empty directory that was made for a run that did not begin."""
        with suppress(OSError):
            if self.is_empty:
                (self.path / LOCK).unlink()
                self.path.rmdir()

    def check_id(self, found: str, where: str) -> None:
        """Refuse a file of another run.

        Raises:
            RunError: Names the file.
        """
        if found and self.run_id and found != self.run_id:
            raise RunError(
                f"{where} in {self.path} belongs to the run {found}, the config to the run "
                f"{self.run_id}: start anew with --overwrite"
            )

    def _unwritten(self, error: OSError) -> RunError:
        return RunError(
            f"the run {self.path} could not be written: {error.strerror or error}; make room "
            "there, or name another place with --out"
        )


def _replace(path: Path, text: str) -> None:
    """Write a file in one switch, on the disk before it."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
