"""Files of arrays: NumPy's npz and npy, memory-mapped where they are large and not compressed."""

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
from growmas.paths import unlike_a_file

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
    """Read arrays `x_train`, `y_train`, `x_test` and `y_test`, or `x` and `y`.

    Args:
        path: Of the npz file, or of a folder with an npy file for each array.
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
        with _Arrays(path) as held:
            names = held.names
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
            arrays = {name: held.read(name) for name in wanted}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path} is not a readable npz file or folder of npy files ({error}): write it with "
            "numpy.savez, with arrays of numbers or text",
            key=("path",),
        ) from error
    pairs = [
        Samples(arrays[a], arrays[b], f"array {a} of {path}", f"array {b} of {path}")
        for a, b in zip(wanted[::2], wanted[1::2], strict=True)
    ]
    rest = pairs[1] if len(pairs) > 1 else 0.2 if test is None else test
    return dataset_of(path.stem, pairs[0], rest, classes=classes, form=form)


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of an npz file or a folder; none if it cannot be read."""
    try:
        with _Arrays(path) as held:
            return held.names
    except (OSError, zipfile.BadZipFile):
        return []


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read one array of an npz file or a folder, memory-mapped where it is large.

    Raises:
        DataError: It is damaged, or holds objects.
    """
    try:
        with _Arrays(path) as held:
            return held.read(name)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(
            f"array {name} of {path} cannot be read ({error})", key=("path",)
        ) from error


class _Arrays:
    """The arrays of an npz file, or the npy files of a folder; large ones are memory-mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive = None if path.is_dir() else zipfile.ZipFile(path)

    @property
    def names(self) -> list[str]:
        if self._archive is None:
            return sorted(each.stem for each in self._path.glob("*.npy"))
        return [name.removesuffix(".npy") for name in self._archive.namelist()]

    def read(self, name: str) -> NDArray[Any]:
        if self._archive is not None:
            return _array(self._archive, self._path, name)
        file = self._path / f"{name}.npy"
        mapped = file.stat().st_size >= LARGE
        array: NDArray[Any] = np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False)
        return array

    def __enter__(self) -> _Arrays:
        return self

    def __exit__(self, *error: object) -> None:
        if self._archive is not None:
            self._archive.close()


def existing(path: Path, key: str = "path") -> Path:
    """Return a path that exists.

    Raises:
        DataError: It does not (names the nearest), or is a device or a pipe.
    """
    if strange := unlike_a_file(path):
        raise DataError(f"{path} cannot be read: {strange}", key=(key,))
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
