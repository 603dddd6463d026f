"""Files of a checkpoint: written completely or not at all, and checked when read.

A new state is written as `new.safetensors` and `new.json`, and both are synced. The switch is one
rename, of `new.json` to `state.json`; the tensors follow. The state before stays, as
`previous.json` and `previous.safetensors`. Then all names are synced at once. A text and the
tensors that belong to it carry the same id, so that a reader finds them after a stop between two
renames, and checksums, so that damage is seen.

A power failure before the names are synced may undo any of the renames. Whichever it undoes, the
text of `state.json` or of `new.json` has its tensors, under one of their three names:

    undone                     state.json   its tensors
    all, or all but the old    old          tensors or previous.safetensors
    that of the text           old          replaced; `new.json` has the tensors of its own
    those of the tensors       new          new.safetensors
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from growmas.checkpoint.encoding import Decoder, Encoder, State
from growmas.errors import CheckpointError, GrowmasWarning

FORMAT = 2

_STATE, _PREVIOUS, _NEW = "state.json", "previous.json", "new.json"
_TENSORS = ("tensors.safetensors", "new.safetensors", "previous.safetensors")
OWN_FILES = frozenset({_STATE, _PREVIOUS, _NEW, *_TENSORS})

_BODY = ', "dict": '
_LARGEST = 2**31  # bytes of a text; beyond it, a file is not one of ours
_CHUNK = 2**24

_UNREADABLE = (
    OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError,
    RecursionError, OverflowError, MemoryError,
)  # fmt: skip


class _NewerFormat(CheckpointError):
    """A checkpoint of a later growmas."""


@dataclass(frozen=True)
class _Header:
    """The head of a text.

    Attributes:
        id: Shared with its tensors; None in the first format.
        saved: Seconds since the epoch; None in the first format.
        crc: Of its tensors' file; None in the first format.
    """

    id: str | None
    saved: float | None
    crc: str | None


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
    encoder = Encoder()
    try:
        body = json.dumps(encoder.encode(state, "state")["dict"]).encode()
    except (RecursionError, ValueError, TypeError) as error:
        raise CheckpointError(f"the state cannot be written: {error}") from error
    folder = Path(os.path.realpath(path))
    _check_ours(folder)
    try:
        folder.mkdir(parents=parents, exist_ok=True)
        if _finish_switch(folder):
            _sync(folder)
        _write_new(folder, encoder.tensors, body)
        if _identity(folder / _STATE) is not None:
            _keep_previous(folder)
        (folder / _NEW).replace(folder / _STATE)
        _finish_switch(folder)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        _drop_unfinished(folder)
        raise CheckpointError(f"the checkpoint {folder} cannot be written: {error}") from error


def read_state(path: str | os.PathLike[str]) -> State:
    """Read the state that `write_state` wrote; if it is damaged, the one before, with a warning.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or of a newer format.
    """
    folder = Path(path)
    try:
        return _read(folder, _STATE)[0]
    except _NewerFormat:
        raise
    except CheckpointError as error:
        for name, where in ((_NEW, "after"), (_PREVIOUS, "before")):
            with suppress(CheckpointError):
                state, header = _read(folder, name)
                saved = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.saved or 0))
                warnings.warn(
                    f"{error}; the checkpoint {where} it, of {saved}, is used",
                    GrowmasWarning,
                    stacklevel=2,
                )
                return state
        raise


def exists(path: Path) -> bool:
    """Return True if a folder holds a checkpoint, complete or not."""
    return (path / _STATE).is_file() or (path / _PREVIOUS).is_file()


def _read(folder: Path, name: str) -> tuple[State, _Header]:
    try:
        encoded, header = _text(folder / name)
        file = _tensors_of(folder, header)
        if header.crc is not None and _crc_of(file) != header.crc:
            raise ValueError(f"{file.name} is damaged")
        state = Decoder(load_file(file)).decode(encoded)
        if not isinstance(state, dict):
            raise ValueError("it does not hold a state")
    except (CheckpointError, *_UNREADABLE) as error:
        if isinstance(error, _NewerFormat):
            raise
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{folder} is not a readable checkpoint: {reason:.200}") from error
    return state, header


def _text(path: Path) -> tuple[Any, _Header]:
    """Return the encoded state of a text, and its head."""
    body, header = _checked(path)
    encoded = json.loads(body)
    return (encoded if header.id is None else {"dict": encoded}), header


def _checked(path: Path) -> tuple[str, _Header]:
    """Return the body of a text that is not damaged, and its head; the first format has none."""
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} has more than {_LARGEST:,} bytes")
    text = path.read_text(encoding="utf-8")
    head, found, body = text.partition(_BODY)
    if not found or not head.startswith('{"format"'):
        encoded = json.loads(text)
        pairs = encoded.get("dict", ()) if isinstance(encoded, dict) else ()
        for version in [pair[1] for pair in pairs if pair[:1] == ["format"]]:
            if type(version) is int and version > FORMAT:
                raise _newer(path.parent, version)
        return text, _Header(None, None, None)
    values = json.loads(f"{head}}}")
    if type(values["format"]) is int and values["format"] > FORMAT:
        raise _newer(path.parent, values["format"])
    body = body.removesuffix("}")
    if values["crc32"] != f"{zlib.crc32(body.encode()):08x}":
        raise ValueError(f"{path.name} is damaged")
    return body, _Header(str(values["id"]), float(values["saved"]), str(values["tensors_crc32"]))


def _newer(folder: Path, version: int) -> _NewerFormat:
    return _NewerFormat(
        f"{folder} has format {version}, this growmas reads up to {FORMAT}: install a newer growmas"
    )


def _tensors_of(folder: Path, header: _Header) -> Path:
    """Return the file with the tensors of a text.

    Raises:
        FileNotFoundError: It is not there.
    """
    for name in _TENSORS:
        if (folder / name).is_file() and _id_of(folder / name) == (header.id or ""):
            return folder / name
    raise FileNotFoundError(f"the tensors of {folder} are missing or damaged")


def _id_of(file: Path) -> str | None:
    """Return the id of a file of tensors: "" in the first format, None of a damaged file."""
    try:
        with safe_open(file, "pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            return metadata.get("id", "")
    except _UNREADABLE:
        return None


def _write_new(folder: Path, tensors: Mapping[str, Tensor], body: bytes) -> None:
    """Write and sync the files of a new state.

    The disk writes the tensors while their checksum is made, and both files at the same time: a
    small file waits for the disk's journal, not for its bytes.
    """
    identity = secrets.token_hex(8)
    fresh = folder / "new.safetensors"
    save_file(dict(tensors), fresh, metadata={"id": identity})
    with ThreadPoolExecutor(1) as disk:
        synced = disk.submit(_sync, fresh)
        head = {
            "format": FORMAT,
            "id": identity,
            "saved": time.time(),
            "tensors_crc32": _crc_in_memory(fresh, tensors),
            "crc32": f"{zlib.crc32(body):08x}",
        }
        _write(folder / _NEW, f"{json.dumps(head)[:-1]}{_BODY}".encode(), body, b"}")
        synced.result()


def _keep_previous(folder: Path) -> None:
    """Give the text of the present state its second name; `_finish_switch` does the tensors."""
    state, previous, fresh = folder / _STATE, folder / _PREVIOUS, folder / ".previous.json.new"
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
    current = _identity(folder / _STATE) if fresh.exists() else None
    if current is None or _id_of(fresh) != current:
        return False
    before = _identity(folder / _PREVIOUS)
    if before is not None and _id_of(tensors) == before:
        tensors.replace(folder / "previous.safetensors")
    fresh.replace(tensors)
    return True


def _drop_unfinished(folder: Path) -> None:
    """Remove what a failed write has left, unless the switch was made or that cannot be told."""
    with suppress(OSError):
        fresh = folder / "new.safetensors"
        current = _identity(folder / _STATE) if (folder / _STATE).exists() else ""
        if current is not None and current != _id_of(fresh):
            for file in (fresh, folder / _NEW, folder / ".previous.json.new"):
                file.unlink(missing_ok=True)


def _identity(text: Path) -> str | None:
    """Return the id of a text: "" in the first format, None if it is missing or damaged."""
    try:
        return _checked(text)[1].id or ""
    except (CheckpointError, *_UNREADABLE):
        return None


def _check_ours(folder: Path) -> None:
    """Refuse to write into anything but a checkpoint or an empty folder."""
    if not folder.exists():
        return
    names = {each.name for each in folder.iterdir()} if folder.is_dir() else {""}
    strange = sorted(name for name in names - OWN_FILES if not name.startswith(".") or not name)
    texts = [folder / name for name in (_STATE, _PREVIOUS, _NEW) if (folder / name).is_file()]
    if strange or (texts and not any(map(_looks_ours, texts)) and not _has_our_tensors(folder)):
        raise CheckpointError(
            f"{folder} exists and is not a checkpoint, so it is not replaced: choose another path"
        )


def _looks_ours(text: Path) -> bool:
    with text.open("rb") as file:
        start = file.read(16)
    return not start or start.startswith((b'{"dict"', b'{"format"'))


def _has_our_tensors(folder: Path) -> bool:
    return any(_id_of(folder / name) for name in _TENSORS)


def _write(file: Path, *pieces: bytes) -> None:
    with file.open("wb") as opened:
        opened.writelines(pieces)
        opened.flush()
        os.fsync(opened.fileno())


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _crc_of(file: Path) -> str:
    crc = 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return f"{crc:08x}"


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
