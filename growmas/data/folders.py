"""Folders of images, one folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from growmas.data.arrays import Samples, dataset_of
from growmas.data.files import existing
from growmas.data.images import decoded, image_files
from growmas.data.sources import Dataset
from growmas.errors import DataError

_TEST = ("test", "val", "valid", "validation")


def read_folder(
    path: Path,
    *,
    test: Path | float | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    classes: list[str] | None = None,
) -> Dataset:
    """Read `train/CLASS/*.png` and `test/CLASS/*.png`, or `CLASS/*.png` and hold out a share.

    Args:
        path: The folder.
        test: Another folder of classes, or a share of each class; None for the folder `test` (or
            `val`), and a share of 0.2 where there is no folder `train`.
        size: (height, width) that all images are brought to.
        channels: 1 or 3; None for 3 if any image has colours, else 1.
        classes: Names of the classes, those of the folders; None takes all of them.

    Raises:
        DataError: A folder is missing or empty, or an image cannot be read.
    """
    existing(path)
    if not path.is_dir():
        raise DataError(
            f"{path} is a file: give a folder with a folder for each class", key=("path",)
        )
    train = path / "train" if (path / "train").is_dir() else path
    known = _classes(train, classes)
    first = _samples(train, known, size, channels)
    other = existing(test, "test") if isinstance(test, Path) else None
    if test is None and train != path:
        other = next((path / name for name in _TEST if (path / name).is_dir()), None)
        if other is None:
            raise DataError(
                f"{path} has a folder train but none of {', '.join(_TEST)}: add one, or set test "
                "to a folder or to a share such as 0.2",
                key=("test",),
            )
    if other is None:
        share = test if isinstance(test, float | int) else 0.2
        return dataset_of(path.name, first, share, classes=known, form="images")
    strange = sorted({each.name for each in other.iterdir() if each.is_dir()} - {*known})
    if strange and classes is None:
        raise DataError(
            f"{other} has class {strange[0]!r}, but {train} has no such folder: add training "
            "images, or remove it"
        )
    second = _samples(other, known, size, first.inputs.shape[1])
    return dataset_of(path.name, first, second, classes=known, form="images")


def _classes(folder: Path, names: list[str] | None) -> list[str]:
    found = sorted(each.name for each in folder.iterdir() if each.is_dir())
    if not found:
        raise DataError(
            f"{folder} has no folders: expected one for each class, with its images", key=("path",)
        )
    missing = [name for name in names or () if name not in found]
    if missing:
        raise DataError(
            f"{folder} has no folder {missing[0]!r}; it has {', '.join(found)}", key=("classes",)
        )
    return names or found


def _samples(
    folder: Path, classes: list[str], size: tuple[int, int] | None, channels: int | None
) -> Samples:
    files = []
    for name in classes:
        place = folder / name
        images = image_files(place) if place.is_dir() else []
        if not images:
            raise DataError(f"{place} has no images: add some, or remove the folder of the class")
        files += [(str(image), image) for image in images]
    inputs = decoded(files, channels=channels, size=size)
    labels = np.array([image.parent.name for _, image in files])
    return Samples(inputs, labels, str(folder), f"the folders of {folder}")
