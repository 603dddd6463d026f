"""Files of arrays: NumPy's npz, memory-mapped where they are large and not compressed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from growmas.data.arrays import Form, Samples, dataset_of
from growmas.data.names import did_you_mean
from growmas.data.sources import Dataset
from growmas.errors import DataError

LARGE = 64 * 2**20
"""Bytes from which an array is memory-mapped."""


def read_npz(
    path: Path,
    *,
    test: float | None = None,
    input: str | None = None,
    label: str | None = None,
    classes: list[str] | None = None,
    form: Form | None = None,
) -> Dataset:
    """Read arrays `x_train`, `y_train`, `x_test` and `y_test`, or `x` and `y`, of a file.

    Args:
        path: Of the file.
        test: Share of `x` and `y` to hold out of each class; None for 0.2.
        input: Another name for `x`; with `_train` and `_test` appended where there are such.
        label: Another name for `y`.
        classes: Names of the classes.
        form: What the inputs are; None decides by their shape and type.

    Raises:
        DataError: The file, or an array in it, is missing or does not fit.
    """
    existing(path)
    x, y = input or "x", label or "y"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if f"{x}_train" in names:
                wanted = [f"{x}_train", f"{y}_train", f"{x}_test", f"{y}_test"]
                if test is not None and f"{x}_test" not in names:
                    wanted = wanted[:2]
            else:
                wanted = [x, y]
            for name in wanted:
                if name not in names:
                    key = {x: ("input",), y: ("label",)}.get(name.split("_")[0], ())
                    raise DataError(
                        f"{path} has no array {name!r}; {did_you_mean(name, names)}. Expected "
                        f"{x}_train, {y}_train, {x}_test and {y}_test, or {x} and {y}",
                        key=key if (input if name.startswith(x) else label) else (),
                    )
            arrays = {name: _array(archive, path, name) for name in wanted}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path} is not a readable npz file ({error}): write it with numpy.savez, with "
            "arrays of numbers or text",
            key=("path",),
        ) from error
    pairs = [
        Samples(arrays[a], arrays[b], f"array {a} of {path}", f"array {b} of {path}")
        for a, b in zip(wanted[::2], wanted[1::2], strict=True)
    ]
    rest = pairs[1] if len(pairs) > 1 else 0.2 if test is None else test
    return dataset_of(path.stem, pairs[0], rest, classes=classes, form=form)


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of an npz file; none if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read one array of an npz file, memory-mapped where it is large and not compressed.

    Raises:
        DataError: It is damaged, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _array(archive, path, name)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(
            f"array {name} of {path} cannot be read ({error})", key=("path",)
        ) from error


def existing(path: Path, key: str = "path") -> Path:
    """Return a path that exists.

    Raises:
        DataError: It does not; names the nearest.
    """
    if path.exists():
        return path
    there = [str(each) for each in path.parent.glob("*")] if path.parent.is_dir() else []
    hint = did_you_mean(str(path), there) if there else ""
    hint = hint if hint.startswith("did") else "give a path relative to the config, or absolute"
    raise DataError(f"{path} does not exist; {hint}", key=(key,))


def _array(archive: zipfile.ZipFile, path: Path, name: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        if info.compress_type == zipfile.ZIP_STORED and info.file_size >= LARGE:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version >= (2, 0):
                read = np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if not dtype.hasobject:
                offset = _data_offset(path, info) + file.tell()
                order: Literal["F", "C"] = "F" if fortran else "C"
                mapped: NDArray[Any] = np.memmap(path, dtype, "c", offset, shape, order)
                return mapped
            file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), dtype="<u2")
    return info.header_offset + 30 + int(name) + int(extra)
