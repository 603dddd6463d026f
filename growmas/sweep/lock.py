"""Lock that allows one sweep at a time in a folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from growmas.errors import RunError
from growmas.file_lock import take_within

_NAME = ".sweep.lock"
_PATIENCE = 10.0  # seconds; the runs of a killed sweep end within


@contextmanager
def only_one(folder: Path) -> Iterator[tuple[int, ...]]:
    """Hold a folder; yields the file descriptors that processes inherit to hold it too.

    On Windows processes do not inherit it: the folder is free once the sweep itself has ended.

    Raises:
        RunError: Another sweep holds it.
    """
    lock = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not take_within(lock, _PATIENCE):
            raise RunError(
                f"another sweep uses {folder}: wait for it (growmas compare {folder} "
                "shows how far it is), or name another folder with --out"
            )
        yield () if sys.platform == "win32" else (lock,)
    finally:
        os.close(lock)
