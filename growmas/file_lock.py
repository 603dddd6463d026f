"""Locks on open files, which the kernel frees when the process ends in whatever way."""

import errno
import os
import sys
import time
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_PAUSE = 0.05  # seconds between two attempts
_FAR = 2**30  # where a byte is locked on Windows: beyond what others read from the file


def take(handle: int) -> bool:
    """Lock a file for this process; return False if another process has locked it.

    Files that cannot be locked (on some network file systems) count as locked by this process, so
    that two processes are not told apart there.

    Args:
        handle: Descriptor of the open file.
    """
    if sys.platform == "win32":
        return take_byte(handle, msvcrt)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks
        return True
    return True


def share(handle: int) -> bool:
    """Lock a file together with others that share it; return False if a process has it alone.

    A lock of this process becomes a shared one. Windows has no shared locks: there it is freed.

    Args:
        handle: Descriptor of the open file.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks
        return True
    return True


def take_byte(handle: int, windows: Any) -> bool:
    """Lock a file as Windows does, by one of its bytes; return False if another process has it.

    Locked bytes cannot be read, so it is a byte beyond the end of the file.

    Args:
        handle: Descriptor of the open file.
        windows: The module `msvcrt`.

    Raises:
        OSError: The file cannot be locked for another reason.
    """
    os.lseek(handle, _FAR, os.SEEK_SET)
    try:
        windows.locking(handle, windows.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLK):
            return False
        raise
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
    return True


def take_within(handle: int, seconds: float) -> bool:
    """Lock a file as `take` does, and try again for some seconds while another process has it."""
    until = time.monotonic() + seconds
    while not take(handle):
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE)
    return True
