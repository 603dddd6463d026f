"""Paths that a user gives: checked before they are used."""

import os
import stat
from pathlib import Path

from growmas.errors import GrowmasError


def as_path(given: object, kind: type[GrowmasError], what: str) -> Path:
    """Return what a user gave as a path.

    Args:
        given: A text, or an object that stands for a path.
        kind: The error to raise.
        what: What the path leads to, for the message, such as "a folder".

    Raises:
        GrowmasError: Of that kind; it is something else.

    >>> as_path(3, GrowmasError, "a folder")
    Traceback (most recent call last):
    growmas.errors.GrowmasError: expected the path of a folder, got int
    """
    if not isinstance(given, str | os.PathLike):
        raise kind(f"expected the path of {what}, got {type(given).__name__}")
    return Path(os.fsdecode(given))


def unlike_a_file(path: Path) -> str | None:
    """Return the reason for which reading a path might never end; None for files and folders.

    A device such as /dev/zero has no end, and a pipe may wait for a writer that never comes.

    >>> unlike_a_file(Path(os.devnull))
    'it is a device, not a file'
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # opening it says why
    for is_one, name in _STRANGE.items():
        if is_one(mode):
            return f"it is {name}, not a file"
    return None


_STRANGE = {
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
}
"""Test of a file's mode -> what passes it."""
