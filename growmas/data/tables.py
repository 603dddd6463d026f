"""Tables with a row for each sample: CSV and Parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from growmas.data.arrays import Form, Samples, dataset_of
from growmas.data.files import existing
from growmas.data.images import decoded
from growmas.data.names import did_you_mean
from growmas.data.sources import Dataset
from growmas.errors import DataError

Columns = Mapping[str, Sequence[Any]]
_LABELS = ("label", "labels", "target", "class", "y", "fine_label")


def read_table(
    path: Path,
    *,
    label: str | None = None,
    input: str | Sequence[str] | None = None,
    test: Path | float | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    classes: list[str] | None = None,
    form: Form | None = None,
) -> Dataset:
    """Read a CSV or Parquet file.

    Args:
        path: Of the file; a name that ends in .parquet is Parquet.
        label: The column of labels; None for `label`, or another usual name.
        input: The columns of inputs: numbers, or one column of lists of numbers or of images; None
            for all but the label.
        test: A second file, or the share of each class to hold out; None for 0.2.
        size: (height, width) of images.
        channels: Of images, 1 or 3.
        classes: Names of the classes.
        form: What the inputs are.

    Raises:
        DataError: A column is missing, or holds something else; names the row.
    """
    columns = _read(path, "path")
    label = label or next((name for name in _LABELS if name in columns), None)
    if label is None:
        raise DataError(
            f"{path} has no column label: name the column of labels; columns: {', '.join(columns)}",
            key=("label",),
        )
    train = samples_of(columns, str(path), label, input, size=size, channels=channels)
    other: Samples | float = 0.2 if test is None else test if not isinstance(test, Path) else 0.2
    if isinstance(test, Path):
        other = samples_of(
            _read(test, "test"), str(test), label, input, size=size, channels=channels
        )
        one, two = np.shape(train.inputs)[1:], np.shape(other.inputs)[1:]
        if one != two:
            raise DataError(
                f"a row of {path} gives inputs of shape {one} but one of {test} gives {two}: both "
                "need the same columns",
                key=("test",),
            )
    return dataset_of(path.stem, train, other, classes=classes, form=form)


def samples_of(
    columns: Columns,
    where: str,
    label: str,
    input: str | Sequence[str] | None,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> Samples:
    """Return the samples of a table.

    Args:
        columns: Name -> values; all of the same length.
        where: Name of the table, for messages.
        label: The column of labels.
        input: The columns of inputs; None for all but the label.
        size: (height, width) of images.
        channels: Of images, 1 or 3.

    Raises:
        DataError: A column is missing, or holds something else; names the row.
    """
    names = [input] if isinstance(input, str) else list(input or columns)
    if input is None:
        names = [name for name in names if name != label]
    for name, key in ((label, "label"), *((name, "input") for name in names)):
        if name not in columns:
            hint = did_you_mean(name, columns).replace("known:", "columns:")
            raise DataError(f"{where} has no column {name!r}; {hint}", key=(key,))
    if label in names:
        raise DataError(
            f"column {label!r} of {where} is the label, and would be learnt from: leave it out of "
            "input",
            key=("input",),
        )
    if not names:
        raise DataError(f"{where} has no column besides the label {label!r}", key=("input",))
    if not len(columns[label]):
        raise DataError(f"{where} has no rows: expected at least one", key=("path",))
    labels = np.array(_labels(columns[label], label, where))
    inputs = _inputs(columns, names, where, size, channels)
    named = ", ".join(names[:3]) + ("…" if len(names) > 3 else "")
    return Samples(inputs, labels, f"column {named} of {where}", f"column {label} of {where}")


def _inputs(
    columns: Columns,
    names: Sequence[str],
    where: str,
    size: tuple[int, int] | None,
    channels: int | None,
) -> NDArray[Any]:
    first = next((v for v in columns[names[0]] if v is not None), None)
    image = isinstance(first, bytes) or hasattr(first, "convert")
    if isinstance(first, Mapping) and ("bytes" in first or "path" in first):
        image = True
    if image and len(names) == 1:
        folder = Path(where).parent
        pairs = [
            (f"row {row} of column {names[0]} of {where}", _encoded(value, folder))
            for row, value in enumerate(columns[names[0]], start=1)
        ]
        return decoded(pairs, channels=channels, size=size)
    if isinstance(first, list | tuple | np.ndarray | str) and len(names) == 1 and _is_list(first):
        return _lists(columns[names[0]], names[0], where)
    numbers = [_numbers(columns[name], name, where) for name in names]
    return np.stack(numbers, axis=1)


def _encoded(value: Any, folder: Path) -> Any:
    """Return the bytes or the path of an image as Hugging Face stores it."""
    if not isinstance(value, Mapping):
        return value
    if value.get("bytes") is not None:
        return value["bytes"]
    return folder / str(value.get("path"))


def _is_list(value: Any) -> bool:
    return not isinstance(value, str) or value.lstrip().startswith("[")


def _lists(values: Sequence[Any], name: str, where: str) -> NDArray[Any]:
    found: list[NDArray[Any]] = []
    for row, value in enumerate(values, start=1):
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
            array = np.array(parsed)
            if array.dtype.kind not in "iuf" or array.ndim == 0:
                raise ValueError("it is not a list of numbers")
        except ValueError as error:
            raise DataError(
                f"row {row} of column {name!r} of {where} cannot be read as numbers ({error}): "
                "correct it",
                key=("input",),
            ) from error
        if found and array.shape != found[0].shape:
            raise DataError(
                f"row {row} of column {name!r} of {where} has shape {array.shape}, the first row "
                f"has {found[0].shape}: all rows need the same",
                key=("input",),
            )
        found.append(array)
    return np.stack(found)


def _numbers(values: Sequence[Any], name: str, where: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(values, dtype=np.float32)
        if array.ndim == 1 and np.isfinite(array).all():
            return array
    except (ValueError, TypeError):
        pass
    for row, value in enumerate(values, start=1):
        try:
            if not np.isfinite(np.float32(value)):
                raise ValueError
        except (ValueError, TypeError) as error:
            raise DataError(
                f"row {row} of column {name!r} of {where} must be a number, got {_shown(value)}: "
                "correct or drop it, or list the columns of inputs in input",
                key=("input",),
            ) from error
    raise DataError(f"column {name!r} of {where} must hold numbers", key=("input",))


def _labels(values: Sequence[Any], name: str, where: str) -> list[Any]:
    found = list(values)
    for row, value in enumerate(found, start=1):
        if value is None or value == "" or value != value:
            raise DataError(
                f"row {row} of column {name!r} of {where} has no label: correct or drop the row",
                key=("label",),
            )
    try:
        return [int(value) if isinstance(value, str) else value for value in found]
    except ValueError:
        return found


def _shown(value: Any) -> str:
    return "nothing" if value is None or value == "" else repr(value)


def _read(path: Path, key: str) -> Columns:
    existing(path, key)
    try:
        if path.suffix in (".parquet", ".pq") or path.is_dir():
            return _read_parquet(path)
        return _read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"{path} is not a readable table ({error})", key=(key,)) from error


def _read_csv(path: Path) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(file, delimiter=delimiter)
        names = [name.strip() for name in next(reader, [])]
        if not names or len({*names}) < len(names):
            raise ValueError("its first line must name each column once")
        rows = []
        for row in reader:
            if row and len(row) != len(names):
                raise ValueError(
                    f"line {reader.line_num} has {len(row)} values for {len(names)} columns"
                )
            if row:
                rows.append(row)
    return dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def _read_parquet(path: Path) -> Columns:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError("Parquet files are read with pyarrow: pip install pyarrow") from error
    table = parquet.read_table(path)
    columns: dict[str, Sequence[Any]] = {}
    for name in table.column_names:
        column = table.column(name)
        plain = column.null_count == 0 and str(column.type) in _PLAIN
        columns[name] = column.to_numpy() if plain else column.to_pylist()
    return columns


_PLAIN = {
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float", "double", "halffloat", "bool"),
}
