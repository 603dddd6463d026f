"""Paths that a user gives: checked before they are used."""

import os
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
