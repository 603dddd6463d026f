"""Files in the IDX format of MNIST, compressed or not."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from growmas.data.arrays import Form, Samples, dataset_of
from growmas.data.files import existing
from growmas.data.sources import Dataset
from growmas.errors import DataError

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_PARTS = {"train": ("train",), "test": ("t10k", "test")}
_KINDS = {"images": "images-idx3", "labels": "labels-idx1"}


def read_idx_folder(
    path: Path,
    *,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    form: Form | None = None,
) -> Dataset:
    """Read `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same of `t10k` or `test`.

    Args:
        path: The folder with the four files; each may end in .gz.
        name: Of the source; the folder's by default.
        classes: Names of the classes.
        form: What the inputs are.

    Raises:
        DataError: A file is missing or damaged.
    """
    existing(path)
    if not path.is_dir():
        raise DataError(f"{path} is a file: give the folder with the four files", key=("path",))
    halves = []
    for part in ("train", "test"):
        images, labels = (_find(path, part, kind) for kind in _KINDS)
        halves.append(Samples(read_idx(images), read_idx(labels), str(images), str(labels)))
    return dataset_of(name or path.name, *halves, classes=classes, form=form)


def read_idx(path: Path) -> NDArray[Any]:
    """Read one file; one that is not compressed is memory-mapped.

    Raises:
        DataError: It is damaged, or not in this format.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else b""
        head = content[:64] if content else _head(path)
        kind, axes = head[2], head[3]
        shape = tuple(np.frombuffer(head, ">u4", axes, 4).tolist())
        dtype, offset = np.dtype(_TYPES[kind]), 4 + 4 * axes
        if head[:2] != b"\0\0":
            raise ValueError("it does not begin with two zero bytes")
        size = len(content) if content else path.stat().st_size
        if size != offset + prod(shape) * dtype.itemsize:
            raise ValueError(f"{size} bytes do not fit its shape {shape}")
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{path} is not a readable IDX file ({error}): download it again", key=("path",)
        ) from error
    if content:
        return np.frombuffer(bytearray(content), dtype, offset=offset).reshape(shape)
    return np.memmap(path, dtype, "c", offset, shape)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _find(folder: Path, part: str, kind: str) -> Path:
    names = [
        f"{prefix}-{stem}-ubyte{end}"
        for prefix in _PARTS[part]
        for stem in (_KINDS[kind], _KINDS[kind].replace("-idx", ".idx"))
        for end in ("", ".gz")
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {names[0]} or {names[1]}", key=("path",))
