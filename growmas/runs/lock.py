"""Lock of a run directory: one process at a time, for the life of a run.

The lock is one on the open file `run.lock` (see `growmas.file_lock`). The kernel frees it when the
process ends, in whatever way; processes that the run starts do not inherit it. The file names the
owner: process id, host and run id.
"""

import json
import os
import socket
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from growmas.closeable import Closeable
from growmas.errors import RunError
from growmas.file_lock import take, take_within

LOCK = "run.lock"
_PATIENCE = 1.0  # seconds; a reader that looks at a lock holds it for a moment


@dataclass(frozen=True)
class Owner:
    """The process that a run belongs to.

    Attributes:
        pid: Process id.
        host: Name of the machine.
        run: Id of the run.
    """

    pid: int
    host: str
    run: str


class RunLock(Closeable):
    """Lock of a run directory; use it as a context manager.

    Args:
        folder: The run directory; it is made if it does not exist.
        run: Id of the run.

    Raises:
        RunError: Another process holds it (names process and host), or it cannot be written.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._handle = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            if not take_within(self._handle, _PATIENCE):
                raise RunError(_refusal(folder))
            self._write(Owner(os.getpid(), socket.gethostname(), run))
            self.check()
        except OSError as error:
            self.close()
            raise RunError(
                f"the run {folder} could not be locked: {error.strerror or error}; name another "
                "place with --out"
            ) from error
        except BaseException:
            self.close()
            raise
        _open_locks.add(self)

    def check(self) -> None:
        """Refuse to go on if the directory was moved or deleted.

        Raises:
            RunError: The lock file is no longer in its place.
        """
        try:
            there, here = os.stat(self._folder / LOCK), os.fstat(self._handle)
        except OSError:
            there = None
        if there is None or (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
            raise RunError(
                f"the run directory {self._folder} was moved, deleted or replaced while the run "
                "went on, so the run ends; continue a moved one with --out PLACE --resume"
            )

    def close(self) -> None:
        """Free the lock."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, owner: Owner) -> None:
        text = json.dumps({"growmas": "run", **vars(owner)})
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, text.encode())


def is_locked(folder: Path) -> bool:
    """Return True if a process on this machine runs in a directory."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        return not take(handle)
    finally:
        os.close(handle)


def read_owner(folder: Path) -> Owner | None:
    """Return the last owner of a run directory; None if it names none."""
    try:
        values: Any = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        if values["growmas"] != "run":
            return None
        return Owner(int(values["pid"]), str(values["host"]), str(values["run"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def refuse_locked(folder: Path) -> None:
    """Refuse a directory that a process runs in.

    Raises:
        RunError: Names process and host.
    """
    if is_locked(folder):
        raise RunError(_refusal(folder))


def _refusal(folder: Path) -> str:
    owner = read_owner(folder)
    who = f"process {owner.pid} on {owner.host}" if owner else "another process"
    return f"{folder} is in use by {who}: wait until it ends, or name another directory with --out"


_open_locks: "weakref.WeakSet[RunLock]" = weakref.WeakSet()


def _close_in_child() -> None:
    for lock in list(_open_locks):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
