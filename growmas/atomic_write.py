"""Files that are replaced completely or not at all, and that are on the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from growmas.errors import RunError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a new file next to `path` to write to, which then takes its name.

    On an error the new file is removed, and `path` is left as it was. A pipe, a device or the
    target of a link such as /dev/stdout is written to directly.

    Raises:
        RunError: It could not be written, with the cause and the path.
    """
    if path.is_dir():
        raise RunError(f"{path} is a folder: give the name of a file")
    special = path.is_symlink() or (path.exists() and not path.is_file())
    fresh = path if special else path.with_name(f".{path.name}.new")
    try:
        yield fresh
        if not special:
            fresh.replace(path)
    except OSError as error:
        raise RunError(
            f"{path} could not be written: {error.strerror or error}; choose another place"
        ) from error
    finally:
        if not special:
            with suppress(OSError):  # the file or its folder may not exist
                fresh.unlink(missing_ok=True)


def sync_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
