"""Data sets made of labelled arrays, whatever they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from growmas.data.sources import Dataset, held_out
from growmas.errors import DataError

Array = NDArray[Any]
Form = Literal["images", "vectors", "tokens", "sequences"]

_CHANNELS = (1, 3, 4)
_NAMED = 5  # examples in a message


@dataclass(frozen=True)
class Samples:
    """Inputs and labels as a source has them; N samples.

    Attributes:
        inputs: [N, ...], an array or a tensor.
        labels: [N] or [N, 1], whole numbers or text.
        inputs_name: What the source calls the inputs, for messages.
        labels_name: What the source calls the labels.
    """

    inputs: Array | Tensor
    labels: Array | Tensor
    inputs_name: str = "the inputs"
    labels_name: str = "the labels"


def dataset_of(
    name: str,
    train: Samples,
    test: Samples | float,
    *,
    classes: Sequence[str] | None = None,
    form: Form | None = None,
) -> Dataset:
    """Make a data set of arrays.

    Args:
        name: Of the source.
        train: Training samples, or all samples where `test` is a share.
        test: Test samples, or the share of each class that is held out.
        classes: Names of the classes in the order of their labels 0, 1, …; None takes the labels
            themselves, sorted.
        form: What the inputs are; None decides by their shape and type.

    Raises:
        DataError: Names the array and says what is wrong with it.
    """
    known = _classes(train, classes)
    parts = [_coded(train, known, classes, form)]
    if isinstance(test, Samples):
        parts.append(_coded(test, known, classes, form))
        (train_inputs, train_labels), (test_inputs, test_labels) = parts
    else:
        inputs, labels = parts[0]
        mask = held_out(labels, len(known), test)
        _check_share(labels, mask, list(known), test)
        train_inputs, train_labels = inputs[~mask], labels[~mask]
        test_inputs, test_labels = inputs[mask], labels[mask]
    names = tuple(classes) if classes else tuple(map(str, known))
    for part, found in (("training", train_labels), ("test", test_labels)):
        _check_filled(found, names, part)
    return Dataset(name, train_inputs, train_labels, test_inputs, test_labels, names)


def as_tensor(values: Array | Tensor, name: str) -> Tensor:
    """Return an array as a tensor of numbers, without a copy where none is needed.

    Raises:
        DataError: It holds something else.
    """
    if isinstance(values, Tensor):
        return values.detach().cpu()
    array = np.asarray(values) if not isinstance(values, np.memmap) else values
    if array.dtype.kind not in "bufi":
        raise DataError(
            f"{name} must be numbers, got {array.dtype}: convert them to an array of one type"
        )
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        array = array.astype(np.float32)
    if not array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy()
    return torch.from_numpy(array)


def shaped(inputs: Tensor, form: Form | None, name: str) -> Tensor:
    """Return inputs in the shape that networks take.

    Images become [N, channels, height, width]: a missing axis of channels is added, and channels
    that come last are moved.

    Raises:
        DataError: The shape does not fit `form`.
    """
    form = form or _form(inputs)
    shape = tuple(inputs.shape)
    axes = {"images": (3, 4), "vectors": (2,), "tokens": (2,), "sequences": (2, 3)}[form]
    if inputs.ndim == 1 and form == "vectors":
        inputs = inputs.unsqueeze(1)
    elif inputs.ndim not in axes:
        wanted = " or ".join(map(str, axes))
        raise DataError(
            f"{name} must have {wanted} axes to be read as {form}, got shape {shape}: reshape "
            "them, or set inputs to images, vectors, tokens or sequences",
            key=("inputs",),
        )
    if form == "tokens" and inputs.is_floating_point():
        raise DataError(f"{name} must be whole numbers to be tokens, got {inputs.dtype}")
    if form == "vectors" and inputs.dtype != torch.uint8 and not inputs.is_floating_point():
        return inputs.float()
    if form != "images":
        return inputs
    if inputs.ndim == 3:
        inputs = inputs.unsqueeze(1)
    elif inputs.shape[1] not in _CHANNELS and inputs.shape[3] in _CHANNELS:
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    small = inputs.dtype in (torch.uint8, torch.float16)
    return inputs if small or inputs.is_floating_point() else inputs.float()


def _form(inputs: Tensor) -> Form:
    if inputs.ndim > 2:
        return "images"
    whole = not inputs.is_floating_point() and inputs.dtype not in (torch.uint8, torch.bool)
    return "tokens" if whole and inputs.ndim == 2 else "vectors"


def _classes(train: Samples, names: Sequence[str] | None) -> dict[object, int]:
    """Return label -> number; of the given names, or of the labels found in training."""
    if names is not None:
        if len({*names}) < len(names):
            raise DataError(f"two classes have the same name: {list(names)}", key=("classes",))
        values = _values(train)
        if values.dtype.kind in "iu":
            return dict(zip(range(len(names)), range(len(names)), strict=True))
        return {name: number for number, name in enumerate(names)}
    found = np.unique(_values(train)).tolist()
    return {value: number for number, value in enumerate(found)}


def _coded(
    samples: Samples, known: dict[object, int], names: Sequence[str] | None, form: Form | None
) -> tuple[Tensor, Tensor]:
    """Return inputs and labels as tensors, labels as 0 … C−1."""
    inputs = as_tensor(samples.inputs, samples.inputs_name)
    values = _values(samples)
    if inputs.ndim == 0 or len(inputs) != len(values):
        count = 0 if inputs.ndim == 0 else len(inputs)
        raise DataError(
            f"{samples.labels_name} must have one label for each of the {count} samples of "
            f"{samples.inputs_name}, got {len(values)}"
        )
    if not len(values):
        raise DataError(f"{samples.inputs_name} has no samples: expected at least one")
    found, places = np.unique(values, return_inverse=True)
    strange = [value for value in found.tolist() if value not in known]
    if strange:
        listed = ", ".join(map(repr, strange[:_NAMED]))
        if names is not None:
            reason = f"classes names {len(names)} of them: add the missing names"
        else:
            reason = "the training samples have none of it: leave it out, or add training samples"
        raise DataError(f"{samples.labels_name} has class {listed}, but {reason}")
    codes = np.array([known[value] for value in found.tolist()], dtype=np.int64)
    labels = torch.from_numpy(codes[places.reshape(-1)])
    return shaped(inputs, form, samples.inputs_name), labels


def _values(samples: Samples) -> Array:
    """Return labels [N] as whole numbers or text."""
    given = samples.labels
    values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{samples.labels_name} must have shape [N], got {tuple(values.shape)}: give the "
            "number of each sample's class, not one-hot rows"
        )
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            wrong = values[~(np.isfinite(values) & (values == np.round(values)))][0]
            raise DataError(
                f"{samples.labels_name} must be whole numbers or text, got {wrong}: labels name "
                "classes; correct or drop these samples"
            )
        return values.astype(np.int64)
    if values.dtype.kind == "O":
        wrong_kind = next((v for v in values.tolist() if not isinstance(v, str)), None)
        if any(not isinstance(v, str) for v in values.tolist()):
            raise DataError(
                f"{samples.labels_name} must be whole numbers or text, got {wrong_kind!r}: correct "
                "or drop these samples"
            )
        return values.astype(str)
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype.kind not in "iuU":
        raise DataError(f"{samples.labels_name} must be whole numbers or text, got {values.dtype}")
    return values


def _check_share(labels: Tensor, mask: Tensor, known: list[object], share: float) -> None:
    for number, value in enumerate(known):
        total = int((labels == number).sum())
        held = int((mask & (labels == number)).sum())
        if total and held in (0, total):
            raise DataError(
                f"class {str(value)!r} has {total} samples, too few to hold out a share of {share} "
                "for testing: add samples, raise test, or give test data",
                key=("test",),
            )


def _check_filled(labels: Tensor, names: Sequence[str], part: str) -> None:
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    empty = [name for name, count in zip(names, counts, strict=False) if not count]
    if empty:
        listed = ", ".join(map(repr, empty[:_NAMED]))
        raise DataError(
            f"class {listed} has no {part} samples: add some, or leave the class out of the data"
        )
