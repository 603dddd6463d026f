"""Lock that allows one sweep at a time in a folder."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from growmas.errors import RunError

if sys.platform != "win32":
    import fcntl

_NAME = ".sweep.lock"
_PATIENCE, _PAUSE = 10.0, 0.1  # seconds; the runs of a killed sweep end within


@contextmanager
def only_one(folder: Path) -> Iterator[tuple[int, ...]]:
    """Hold a folder; yields the file descriptors that processes inherit to hold it too.

    On Windows the folder is not held: two sweeps in one folder are not detected there.

    Raises:
        RunError: Another sweep holds it.
    """
    if sys.platform == "win32":
        yield ()
        return
    lock = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        until = time.monotonic() + _PATIENCE
        while not _taken(lock):
            if time.monotonic() > until:
                raise RunError(
                    f"another sweep uses {folder}: wait for it (growmas compare {folder} "
                    "shows how far it is), or name another folder with --out"
                )
            time.sleep(_PAUSE)
        yield (lock,)
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks
        return True
    return True
