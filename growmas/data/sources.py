"""Sources: labelled samples, each set divided into training and test data.

Importing this module does not import torch, so that a config can check a source's name at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from growmas.data.names import did_you_mean
from growmas.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from growmas.data.preparation import Scaling

_COPIED = 64 * 2**20  # bytes of inputs up to which a call of `load_source` copies them


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and labels of one source; N samples, C classes.

    Attributes:
        name: what a config calls it.
        train_inputs: images [N, channels, height, width], feature vectors [N, D], or tokens
            [N, L]; float32, or as they are stored: uint8 (read as 0 … 1), float16 or whole
            numbers (tokens). Built-in sources lie in [0, 1].
        train_labels: int64 [N], each in 0 … C−1.
        test_inputs: as ``train_inputs``, of other samples.
        test_labels: as ``train_labels``.
        classes: the C class names; ``classes[label]`` names a label.
        scaling: normalises inputs when they are read; None leaves them as they are.

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
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        parts = {
            "training": (self.train_inputs, self.train_labels),
            "test": (self.test_inputs, self.test_labels),
        }
        found: dict[str, str] = {}  # the fault -> the parts that have it
        for name, part in parts.items():
            for fault in _faults(*part, len(self.classes)):
                found[fault] = f"{found[fault]} and {name}" if fault in found else name
        faults = [f"{names} {fault}" for fault, names in found.items()]
        if not faults and self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            shapes = tuple(self.train_inputs.shape[1:]), tuple(self.test_inputs.shape[1:])
            faults.append(f"one training input is {shapes[0]} but one test input is {shapes[1]}")
        if faults:
            raise DataError("\n".join(f"source {self.name!r}: {fault}" for fault in faults))


def load_source(name: str) -> Dataset:
    """Load a source by name.

    The first call in a process reads the data. Every call returns copies, which may be changed;
    the inputs of sources above 64 MiB are shared instead.

    Raises:
        DataError: if the name is unknown, or the package of the source is not installed.
    """
    if name not in _LOADERS:
        raise DataError(f"unknown source {name!r}; {did_you_mean(name, _LOADERS)}")
    kept = _load_once(name)
    if kept.train_inputs.nbytes > _COPIED:
        return kept
    return Dataset(
        name=kept.name,
        train_inputs=kept.train_inputs.clone(),
        train_labels=kept.train_labels.clone(),
        test_inputs=kept.test_inputs.clone(),
        test_labels=kept.test_labels.clone(),
        classes=kept.classes,
        scaling=kept.scaling,
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


def hold_out(
    name: str, inputs: Tensor, labels: Tensor, classes: Sequence[str], *, share: float = 0.2
) -> Dataset:
    """Divide samples into training and test data, class by class.

    Every fifth sample of a class (for a share of 0.2), in the order given, is a test sample. No
    random numbers are drawn, so the division is the same on every machine and under every torch
    version, and test samples come evenly from all of a source that was collected in order.

    Args:
        name: of the source.
        inputs: [N, ...], kept as they are stored; float64 becomes float32.
        labels: [N], converted to int64.
        classes: the class names, by label.
        share: of each class, above 0 and under 1.
    """
    import torch

    labels = labels.long()
    is_test = held_out(labels, len(classes), share)
    if inputs.dtype == torch.float64:
        inputs = inputs.float()
    return Dataset(
        name=name,
        train_inputs=inputs[~is_test],
        train_labels=labels[~is_test],
        test_inputs=inputs[is_test],
        test_labels=labels[is_test],
        classes=tuple(classes),
    )


def held_out(labels: Tensor, classes: int, share: float) -> Tensor:
    """Return a mask [N] of a share of each class, evenly from all of it.

    Args:
        labels: int64 [N].
        classes: Number of classes.
        share: Above 0 and under 1.
    """
    import torch

    step = Fraction(str(share))
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(classes):
        of_class = (labels == label).nonzero().squeeze(1)
        taken = [math.floor((i + 1) * step) > math.floor(i * step) for i in range(len(of_class))]
        mask[of_class[torch.tensor(taken, dtype=torch.bool)]] = True
    return mask


def _builtin(name: str) -> Callable[[], Dataset]:
    """Return a function that loads a built-in source; torch is imported when it is called."""

    def load() -> Dataset:
        loaded: Dataset = getattr(import_module("growmas.data.builtin"), name)()
        return loaded

    return load


_LOADERS: dict[str, Callable[[], Dataset]] = {
    name: _builtin(name)
    for name in ("digits", "mnist5k", "mnist5k_cluttered", "shapes", "fashion_mnist", "flights")
}


@cache
def _load_once(name: str) -> Dataset:
    return _LOADERS[name]()


def _faults(inputs: Tensor, labels: Tensor, classes: int) -> list[str]:
    """Return the faults of the training or the test half of a source, without its name."""
    import torch

    shape = tuple(inputs.shape)
    faults = []
    if inputs.ndim < 2 or 0 in shape or inputs.is_complex():
        faults.append(
            "inputs must be numbers of shape [N, channels, height, width] (images) or [N, D] "
            f"(vectors or tokens), none of them 0, got {inputs.dtype} {shape}"
        )
    elif inputs.is_floating_point() and not _all_finite(inputs):
        faults.append("inputs must be finite, got NaN or infinity: correct or drop them")
    if labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
        faults.append(
            f"labels must be int64, one for each of the {len(inputs)} inputs, "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )
    elif len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        faults.append(
            f"labels must lie in 0 … {classes - 1}, a name for each in classes, "
            f"got {int(labels.min())} … {int(labels.max())}"
        )
    return faults


def _all_finite(inputs: Tensor) -> bool:
    import torch

    return all(bool(part.isfinite().all()) for part in torch.split(inputs, 4096))
