"""Data sets of the Hugging Face hub, or of a folder that `datasets` saved."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from growmas.data.arrays import Form, dataset_of
from growmas.data.names import did_you_mean
from growmas.data.sources import Dataset
from growmas.data.tables import samples_of
from growmas.errors import DataError

_INPUTS = ("image", "img", "input", "inputs", "features", "input_ids", "pixel_values")
_LABELS = ("label", "labels", "fine_label", "target")


def read_hub(
    name: str | None,
    path: Path | None,
    *,
    subset: str | None = None,
    train: str = "train",
    test: str | float = "test",
    label: str | None = None,
    input: str | Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    classes: list[str] | None = None,
    form: Form | None = None,
) -> Dataset:
    """Read anything that `datasets` loads.

    Args:
        name: Of the data set on the hub; None where `path` is given.
        path: A folder that `save_to_disk` wrote.
        subset: Of a data set with several configurations.
        train: The split to learn from.
        test: The split to test on, or the share of each class to hold out.
        label: The column of labels; None for a usual name.
        input: The columns of inputs; None for a usual name, else all but the label.
        size: (height, width) of images.
        channels: Of images, 1 or 3.
        classes: Names of the classes; None for those of the data set.
        form: What the inputs are.

    Raises:
        DataError: `datasets` is not installed, or a split or column is missing.
    """
    splits = _load(name, path, subset)
    where = name or str(path)
    wanted = [train] if isinstance(test, float) else [train, test]
    for key, split in zip(("train", "test"), wanted, strict=False):
        if split not in splits:
            hint = did_you_mean(split, splits).replace("known:", "splits:")
            raise DataError(f"{where} has no split {split!r}; {hint}", key=(key,))
    columns = splits[train].column_names
    label = label or next((each for each in _LABELS if each in columns), "label")
    if input is None:
        input = next((each for each in _INPUTS if each in columns), None)
    parts = [
        samples_of(
            _columns(splits[split], label, input),
            f"{where} ({split})",
            label,
            input,
            size=size,
            channels=channels,
        )
        for split in wanted
    ]
    names = classes or getattr(splits[train].features.get(label), "names", None)
    rest = parts[1] if len(parts) > 1 else float(test)
    return dataset_of(where.rpartition("/")[2], parts[0], rest, classes=names, form=form)


def _columns(split: Any, label: str, input: str | Sequence[str] | None) -> dict[str, Any]:
    names = [input] if isinstance(input, str) else list(input or split.column_names)
    return {name: list(split[name]) for name in {*names, label} if name in split.column_names}


def _load(name: str | None, path: Path | None, subset: str | None) -> Any:
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise DataError(
            "sources of kind hub need the package datasets, which is not installed: "
            "pip install datasets",
            key=("kind",),
        ) from error
    try:
        if path is not None:
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(name, subset)
    except Exception as error:  # whatever the hub, a script or a file system raises
        raise DataError(
            f"datasets cannot load {name or path}: {error}", key=("path" if path else "name",)
        ) from error
    return loaded if isinstance(loaded, dict) else {"train": loaded}
