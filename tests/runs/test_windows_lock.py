"""Locks as Windows has them, by a stand-in for `msvcrt`."""

import errno
import os
from pathlib import Path

import pytest

from growmas.file_lock import take_byte


class FakeWindows:
    """Locks of bytes of files, by their inode; each open file is a process of its own here."""

    LK_NBLCK = 2

    def __init__(self, error: int | None = None) -> None:
        self.held: dict[tuple[int, int], int] = {}
        self.error = error

    def locking(self, handle: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        place = os.fstat(handle).st_ino, os.lseek(handle, 0, os.SEEK_CUR)
        if self.held.setdefault(place, handle) != handle:
            raise PermissionError(errno.EACCES, "Permission denied")


def test_a_second_process_is_refused_and_can_read_the_file(tmp_path: Path) -> None:
    path, windows = tmp_path / "run.lock", FakeWindows()
    path.write_text("who holds it")
    one, other = (os.open(path, os.O_RDWR) for _ in "12")
    try:
        assert take_byte(one, windows)
        assert not take_byte(other, windows)
        assert os.read(other, 99) == b"who holds it"  # from the beginning
        ((_, byte),) = windows.held
        assert byte > path.stat().st_size  # a locked byte could not be read
    finally:
        os.close(one)
        os.close(other)


def test_another_error_is_not_taken_for_a_lock(tmp_path: Path) -> None:
    handle = os.open(tmp_path / "run.lock", os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            take_byte(handle, FakeWindows(errno.EIO))
    finally:
        os.close(handle)
