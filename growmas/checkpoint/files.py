"""Files of a checkpoint: written completely or not at all, and checked when read.

A new state is written as `new.safetensors` and `new.json`, and both are synced. The switch is one
rename, of `new.json` to `state.json`; the tensors follow. The state before stays, as
`previous.json` and `previous.safetensors`. Then all names are synced at once. A text and the
tensors that belong to it carry the same id, so that a reader finds them after a stop between two
renames, and checksums, so that damage is seen.

A power failure before the names are synced may undo any of the renames. Whichever it undoes, the
text in `state.json` or the one in `new.json` still has its tensors, under one of their three names,
and a reader looks at all of them.
"""

import json
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from growmas.atomic_write import sync_disk
from growmas.checkpoint.encoding import Decoder, Encoder, State
from growmas.checkpoint_files import (
    BODY,
    FORMAT,
    NEW,
    OTHERS,
    PREVIOUS,
    STATE,
    TENSORS,
    UNREADABLE,
    NewerFormat,
    Whole,
    id_of,
    identity,
    read_whole,
    strange_files,
)
from growmas.errors import CheckpointError, GrowmasWarning
from growmas.paths import as_path


def write_state(path: str | os.PathLike[str], state: State, *, parents: bool = True) -> None:
    """Write a state of tensors and JSON values; the one before is kept next to it.

    Args:
        path: The folder to write.
        state: Mappings, lists, tuples, tensors and JSON values.
        parents: Make the folders above it, too; False raises if the one above is gone.

    Raises:
        CheckpointError: The folder cannot be written, holds something else than a checkpoint, or
            something else is in the state.
    """
    folder, encoder = Path(os.path.realpath(as_path(path, CheckpointError, "a folder"))), Encoder()
    try:
        body = json.dumps(encoder.encode(state, "state")["dict"]).encode()
    except (RecursionError, ValueError, TypeError) as error:
        raise CheckpointError(f"the state cannot be written: {error}") from error
    _check_ours(folder)
    try:
        fresh = not folder.exists()
        folder.mkdir(parents=parents, exist_ok=True)
        if fresh:
            sync_disk(folder.parent)
        if _finish_switch(folder):
            sync_disk(folder)
        _write_new(folder, encoder.tensors, body)
        if identity(folder / STATE) is not None:
            _keep_previous(folder)
        (folder / NEW).replace(folder / STATE)
        _finish_switch(folder)
        sync_disk(folder)
    except (OSError, SafetensorError) as error:
        _drop_unfinished(folder)
        raise CheckpointError(f"the checkpoint {folder} cannot be written: {error}") from error


def read_state(path: str | os.PathLike[str]) -> State:
    """Read the state that `write_state` wrote; if it is damaged, the one before, with a warning.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or of a newer format.
    """
    folder = as_path(path, CheckpointError, "a folder")
    try:
        return _read(folder, STATE)[0]
    except NewerFormat:
        raise
    except CheckpointError as error:
        for name, where in OTHERS:
            with suppress(CheckpointError):
                state, saved = _read(folder, name)
                warnings.warn(
                    f"{error}; the checkpoint {where} it, of {saved}, is used",
                    GrowmasWarning,
                    stacklevel=2,
                )
                return state
        lost = (folder / PREVIOUS).exists()
        raise type(error)(f"{error}, nor is the one before it" if lost else f"{error}") from error


def exists(path: Path) -> bool:
    """Return True if a folder holds a checkpoint, complete or not."""
    return (path / STATE).is_file() or (path / PREVIOUS).is_file()


def _read(folder: Path, name: str) -> tuple[State, str]:
    """Return a state, and when it was saved."""
    try:
        whole = read_whole(folder, name)
        tensors = _load(whole)
        if tensors is None:
            return _read(folder, name)
        state = Decoder(tensors).decode(whole.encoded)
        if not isinstance(state, dict):
            raise ValueError("it does not hold a state")
    except (CheckpointError, SafetensorError, RuntimeError, *UNREADABLE) as error:
        if isinstance(error, NewerFormat):
            raise
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{folder} is not a readable checkpoint: {reason:.200}") from error
    return state, whole.saved


def _load(whole: Whole) -> dict[str, Tensor] | None:
    """Return the tensors of a state; None if another process has replaced their file meanwhile."""
    try:
        tensors = load_file(whole.tensors)
    except (OSError, RuntimeError, SafetensorError):
        if id_of(whole.tensors) == whole.id:
            raise
        return None
    return tensors if id_of(whole.tensors) == whole.id else None


def _write_new(folder: Path, tensors: Mapping[str, Tensor], body: bytes) -> None:
    """Write and sync the files of a new state.

    The disk writes the tensors while their checksum is made, and both files at the same time: a
    small file waits for the disk's journal, not for its bytes.
    """
    name = secrets.token_hex(8)
    fresh = folder / "new.safetensors"
    save_file(dict(tensors), fresh, metadata={"id": name})
    with ThreadPoolExecutor(1) as disk:
        synced = disk.submit(sync_disk, fresh)
        head = {
            "format": FORMAT,
            "id": name,
            "saved": time.time(),
            "tensors_crc32": _crc_in_memory(fresh, tensors),
            "crc32": f"{zlib.crc32(body):08x}",
        }
        _write(folder / NEW, f"{json.dumps(head)[:-1]}{BODY}".encode(), body, b"}")
        synced.result()


def _keep_previous(folder: Path) -> None:
    """Give the text of the present state its second name; `_finish_switch` does the tensors."""
    state, previous, fresh = folder / STATE, folder / PREVIOUS, folder / ".previous.json.new"
    if previous.exists() and previous.samefile(state):
        return
    fresh.unlink(missing_ok=True)
    try:
        os.link(state, fresh)
    except OSError:  # a disk without hard links
        _write(fresh, state.read_bytes())
    fresh.replace(previous)


def _finish_switch(folder: Path) -> bool:
    """Give the tensors of the present state, and of the one before, their final names.

    Returns:
        True if there was something to do.
    """
    fresh, tensors = folder / "new.safetensors", folder / "tensors.safetensors"
    current = identity(folder / STATE) if fresh.exists() else None
    if current is None or id_of(fresh) != current:
        return False
    before = identity(folder / PREVIOUS)
    if before is not None and id_of(tensors) == before:
        tensors.replace(folder / "previous.safetensors")
    fresh.replace(tensors)
    return True


def _drop_unfinished(folder: Path) -> None:
    """Remove what a failed write has left, unless the switch was made or that cannot be told."""
    with suppress(OSError):
        fresh = folder / "new.safetensors"
        current = identity(folder / STATE) if (folder / STATE).exists() else ""
        if current is not None and current != id_of(fresh):
            for file in (fresh, folder / NEW, folder / ".previous.json.new"):
                file.unlink(missing_ok=True)


def _check_ours(folder: Path) -> None:
    """Refuse to write into anything but a checkpoint or an empty folder."""
    if not folder.exists():
        return
    strange = strange_files(folder) if folder.is_dir() else [folder.name]
    texts = [folder / name for name in (STATE, PREVIOUS, NEW) if (folder / name).is_file()]
    ours = any(map(_looks_ours, texts)) or _has_our_tensors(folder)
    if strange or (texts and not ours):
        names = f"move {', '.join(strange):.200} elsewhere, or " if strange and ours else ""
        raise CheckpointError(
            f"{folder} exists and is not a checkpoint, so it is not replaced: {names}choose "
            "another path"
        )


def _looks_ours(text: Path) -> bool:
    with text.open("rb") as file:
        start = file.read(16)
    return not start or start.startswith((b'{"dict"', b'{"format"'))


def _has_our_tensors(folder: Path) -> bool:
    return any(id_of(folder / name) for name in TENSORS)


def _write(file: Path, *pieces: bytes) -> None:
    with file.open("wb") as opened:
        opened.writelines(pieces)
        opened.flush()
        os.fsync(opened.fileno())


def _crc_in_memory(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Return what `_crc_of` returns for a file of tensors that was just written from memory.

    Only its head is read, which says in which order the tensors follow; that takes less than half
    of the time.
    """
    with file.open("rb") as opened:
        length = opened.read(8)
        head = opened.read(int.from_bytes(length, "little"))
    places = {k: at["data_offsets"] for k, at in json.loads(head).items() if k != "__metadata__"}
    crc = zlib.crc32(head, zlib.crc32(length))
    for key in sorted(places, key=places.__getitem__):
        flat = tensors[key].detach().reshape(-1)
        if flat.numel():
            data: Any = flat.view(torch.uint8).numpy()
            crc = zlib.crc32(data, crc)
    return f"{crc:08x}"
