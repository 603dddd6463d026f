"""Files of a checkpoint: their names, ids and checksums, read without torch.

A text is one line of JSON, a head and a body. The head holds format, id, time and checksums; the
body, under "dict", the state. A file of tensors (safetensors) carries the id of its text.
"""

import json
import os
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from growmas.errors import CheckpointError

FORMAT = 2

STATE, PREVIOUS, NEW = "state.json", "previous.json", "new.json"
"""Texts: of the present state, of the one before, and of one that is being written."""

OTHERS = ((NEW, "after"), (PREVIOUS, "before"))
"""Texts to be used when the present one is damaged, newest first, and when they were written."""

TENSORS = ("tensors.safetensors", "new.safetensors", "previous.safetensors")
OWN_FILES = frozenset({STATE, PREVIOUS, NEW, *TENSORS})

BODY = ', "dict": '
"""What parts the body of a text from its head."""

UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
    OverflowError, MemoryError,
)  # fmt: skip
"""Errors that damaged JSON leads to."""

_LARGEST = 2**31  # bytes of a text; beyond it, a file is not one of ours
_CHUNK = 2**24


class NewerFormat(CheckpointError):
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


def _read_text(path: Path) -> tuple[Any, _Header]:
    """Return the encoded state of a text, and its head.

    Raises:
        NewerFormat: A later growmas wrote it.
        OSError, ValueError, KeyError and others of `UNREADABLE`: It is damaged.
    """
    body, header = _checked(path)
    encoded = json.loads(body)
    return (encoded if header.id is None else {"dict": encoded}), header


@dataclass(frozen=True)
class Whole:
    """A state whose text and tensors are whole, to the last byte.

    Attributes:
        id: Shared by text and tensors.
        encoded: The text.
        tensors: The file of its tensors.
        saved: When it was saved, in words.
    """

    id: str
    encoded: Any
    tensors: Path
    saved: str

    def value(self, *keys: str) -> Any:
        """Return the value at a place in the state; None if there is none, or a tensor."""
        found = self.encoded
        for key in keys:
            pairs = found.get("dict") if isinstance(found, dict) else None
            same = [p[1] for p in pairs or () if isinstance(p, list) and p[:1] == [key] and p[1:]]
            found = same[0] if same else None
        return found


def read_whole(folder: Path, text: str) -> Whole:
    """Read a text, and check it and its tensors; one that is replaced meanwhile is read again.

    Args:
        folder: The checkpoint.
        text: Name of the text.

    Raises:
        NewerFormat: A later growmas wrote it.
        OSError, ValueError, KeyError and others of `UNREADABLE`: It is damaged.
    """
    before = None
    while before != (now := _marks(folder, text)):
        before = now
        with suppress(*UNREADABLE):
            return _read_once(folder, text)
    return _read_once(folder, text)


def _marks(folder: Path, text: str) -> list[tuple[int, int]]:
    """Return numbers that change when a file of a checkpoint is replaced."""
    marks = []
    for name in (text, *TENSORS):
        try:
            held = os.stat(folder / name)
            marks.append((held.st_ino, held.st_mtime_ns))
        except OSError:
            marks.append((0, 0))
    return marks


def _read_once(folder: Path, text: str) -> Whole:
    encoded, header = _read_text(folder / text)
    file = _tensors_of(folder, header)
    if header.crc is not None and crc_of(file) != header.crc:
        raise ValueError(f"{file.name} is damaged")
    saved = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.saved or 0))
    return Whole(header.id or "", encoded, file, saved)


def strange_files(folder: Path) -> list[str]:
    """Return the names in a folder that no checkpoint has; hidden ones are not told."""
    names = {each.name for each in folder.iterdir()}
    return sorted(name for name in names - OWN_FILES if not name.startswith("."))


def _checked(path: Path) -> tuple[str, _Header]:
    """Return the body of a text that is not damaged, and its head; the first format has none."""
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} has more than {_LARGEST:,} bytes")
    text = path.read_text(encoding="utf-8")
    head, found, body = text.partition(BODY)
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


def _newer(folder: Path, version: int) -> NewerFormat:
    return NewerFormat(
        f"{folder} has format {version}, this growmas reads up to {FORMAT}: install a newer growmas"
    )


def identity(text: Path) -> str | None:
    """Return the id of a text: "" in the first format, None if it is missing or damaged."""
    try:
        return _checked(text)[1].id or ""
    except (CheckpointError, *UNREADABLE):
        return None


def _tensors_of(folder: Path, header: _Header) -> Path:
    """Return the file with the tensors of a text.

    Raises:
        FileNotFoundError: It is not there.
    """
    for name in TENSORS:
        if (folder / name).is_file() and id_of(folder / name) == (header.id or ""):
            return folder / name
    raise FileNotFoundError(f"the tensors of {folder} are missing or damaged")


def id_of(file: Path) -> str | None:
    """Return the id of a file of tensors: "" in the first format, None of a damaged file."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            head = json.loads(opened.read(min(length, size)))
        ends = [at["data_offsets"][1] for name, at in head.items() if name != "__metadata__"]
        if size != 8 + length + max(ends, default=0):
            return None  # cut off
        return str(head.get("__metadata__", {}).get("id", ""))
    except UNREADABLE:
        return None


def crc_of(file: Path) -> str:
    """Return the checksum of a file."""
    crc = 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return f"{crc:08x}"
