"""Locks of a sweep's folder: one sweep at a time, or the shards of one sweep side by side."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from growmas.errors import RunError
from growmas.file_lock import share, take, take_within
from growmas.sweep.shard import Shard

_NAME = ".sweep.lock"
_RECORD = ".sweep.json.lock"
_PATIENCE = 10.0  # seconds; the runs of a killed sweep end within
_PAUSE = 0.05  # seconds between two attempts


@contextmanager
def only_one(folder: Path, shard: Shard | None = None) -> Iterator[tuple[int, ...]]:
    """Hold a folder; yields the file descriptors that processes inherit to hold it too.

    Shards of the same number of parts hold it together. On Windows processes do not inherit it:
    the folder is free once the sweep itself has ended.

    Raises:
        RunError: Another sweep holds it, or another process the same shard.
    """
    handles = [_opened(folder / _NAME)]
    try:
        if shard is None:
            if not take_within(handles[0], _PATIENCE):
                raise RunError(_refusal(folder))
        else:
            _join(handles[0], folder, shard)
            handles.append(_opened(folder / f".sweep-{shard.index}-of-{shard.count}.lock"))
            if not take_within(handles[1], _PATIENCE):
                raise RunError(
                    f"another process runs shard {shard} of {folder}: wait for it, or name "
                    "another shard"
                )
        yield () if sys.platform == "win32" else tuple(handles)
    finally:
        for handle in handles:
            os.close(handle)


@contextmanager
def record_lock(folder: Path) -> Iterator[None]:
    """Hold the record of a folder, which several shards write, for as long as it is rewritten."""
    handle = _opened(folder / _RECORD)
    try:
        take_within(handle, _PATIENCE)
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _join(handle: int, folder: Path, shard: Shard) -> None:
    """Share a folder with the other shards; the first of them writes how many parts there are.

    Raises:
        RunError: A whole sweep holds it, or shards of another number of parts.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        if take(handle):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(shard.count).encode(), 0)
            share(handle)
            return
        if share(handle):
            parts = os.pread(handle, 16, 0).decode(errors="replace").strip()
            if parts == str(shard.count):
                return
            problem = f"{folder} is split into {parts} shards by sweeps that still run, "
            raise RunError(f"{problem}not into {shard.count}: give every one of them the same i/n")
        if time.monotonic() > until:
            raise RunError(_refusal(folder))
        time.sleep(_PAUSE)


def _refusal(folder: Path) -> str:
    return (
        f"another sweep uses {folder}: wait for it (growmas compare {folder} shows how far it "
        "is), or name another folder with --out"
    )
