"""Locks on open files, which the kernel frees when the process ends in whatever way."""

import sys
import time

if sys.platform != "win32":
    import fcntl

_PAUSE = 0.05  # seconds between two attempts


def take(handle: int) -> bool:
    """Lock a file for this process; return False if another process has locked it.

    Files that cannot be locked (Windows, some network file systems) count as locked by this
    process, so that two processes are not told apart there.

    Args:
        handle: Descriptor of the open file.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks
        return True
    return True


def take_within(handle: int, seconds: float) -> bool:
    """Lock a file as `take` does, and try again for some seconds while another process has it."""
    until = time.monotonic() + seconds
    while not take(handle):
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE)
    return True
