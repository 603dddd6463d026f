"""Data that a function of the user returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from growmas.data.arrays import Form, Samples, dataset_of
from growmas.data.sources import Dataset
from growmas.errors import DataError

_EXPECTED = (
    "expected a mapping or tuple of arrays (x_train, y_train, x_test, y_test), (x, y), a "
    "growmas.data.Dataset, or (train, test) torch datasets"
)


def dataset_from(
    value: Any,
    target: str,
    *,
    test: float | None = None,
    classes: list[str] | None = None,
    form: Form | None = None,
) -> Dataset:
    """Make a data set of what a function returned.

    Args:
        value: See `_EXPECTED`.
        target: Name of the function, for messages.
        test: Share to hold out where there is no test data; None for 0.2.
        classes: Names of the classes; None for those that the value has.
        form: What the inputs are.

    Raises:
        DataError: It is something else, or does not fit.
    """
    if isinstance(value, Dataset):
        return value
    name = target.rpartition(":")[2]
    parts = _parts(value, target)
    names = classes or _class_names(value)
    rest = parts[1] if len(parts) > 1 else 0.2 if test is None else test
    return dataset_of(name, parts[0], rest, classes=names, form=form)


def _parts(value: Any, target: str) -> list[Samples]:
    if isinstance(value, Mapping):
        keys = [("x_train", "y_train"), ("x_test", "y_test")]
        if not {*keys[0]} <= {*value}:
            keys = [("x", "y")]
        missing = [key for pair in keys for key in pair if key not in value]
        if missing:
            raise DataError(
                f"{target} returned a mapping without {missing[0]!r}; {_EXPECTED}", key=("target",)
            )
        pairs = [(value[x], value[y]) for x, y in keys]
    elif isinstance(value, tuple | list) and len(value) == 4:
        pairs = [(value[0], value[1]), (value[2], value[3])]
    elif isinstance(value, tuple | list) and len(value) == 2:
        first, second = value
        if _is_pair(first) and _is_pair(second) and not _is_array(first):
            pairs = [tuple(first), tuple(second)]  # ((x, y), (x, y)), as Keras gives it
        elif _is_torch_dataset(first):
            pairs = [_read(first, target), _read(second, target)]
        else:
            pairs = [(first, second)]
    elif _is_torch_dataset(value):
        pairs = [_read(value, target)]
    else:
        raise DataError(f"{target} returned a {type(value).__name__}; {_EXPECTED}", key=("target",))
    return [_samples(*pair, target, i) for i, pair in enumerate(pairs)]


def _samples(inputs: Any, labels: Any, target: str, position: int) -> Samples:
    part = ("training", "test")[position]
    for what, each in (("inputs", inputs), ("labels", labels)):
        if not _is_array(each) and not isinstance(each, list | tuple):
            raise DataError(
                f"the {part} {what} that {target} returned are a {type(each).__name__}; "
                f"{_EXPECTED}",
                key=("target",),
            )
    try:
        arrays = [each if _is_array(each) else np.asarray(each) for each in (inputs, labels)]
    except ValueError as error:
        raise DataError(
            f"the {part} data that {target} returned is not an array: {error}", key=("target",)
        ) from error
    names = (f"the {part} inputs of {target}", f"the {part} labels of {target}")
    return Samples(arrays[0], arrays[1], *names)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_array, value))


def _is_torch_dataset(value: Any) -> bool:
    return (
        hasattr(value, "__getitem__")
        and hasattr(value, "__len__")
        and not isinstance(value, str | bytes | tuple | list | Mapping)
        and not _is_array(value)
    )


def _read(dataset: Any, target: str) -> tuple[Tensor, Tensor]:
    """Read every sample of a torch dataset."""
    if not _is_torch_dataset(dataset):
        raise DataError(
            f"{target} returned a {type(dataset).__name__} as test data; {_EXPECTED}",
            key=("target",),
        )
    inputs, labels = [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise DataError(
                f"sample {index} of the dataset of {target} is a {type(sample).__name__}: expected "
                "a pair (input, label)",
                key=("target",),
            )
        inputs.append(_as_tensor(sample[0]))
        labels.append(int(sample[1]))
        if inputs[-1].shape != inputs[0].shape:
            raise DataError(
                f"sample {index} of the dataset of {target} has shape {tuple(inputs[-1].shape)}, "
                f"the first one has {tuple(inputs[0].shape)}: resize them",
                key=("target",),
            )
    if not inputs:
        raise DataError(f"the dataset of {target} has no samples", key=("target",))
    return torch.stack(inputs), torch.tensor(labels)


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)  # also a PIL image
    if array.ndim == 3 and array.shape[2] in (1, 3, 4) and array.dtype == np.uint8:
        array = array.transpose(2, 0, 1)
    return torch.from_numpy(array.copy())


def _class_names(value: Any) -> list[str] | None:
    holders: Iterable[Any] = value if isinstance(value, tuple | list) else [value]
    for each in holders:
        names = each.get("classes") if isinstance(each, Mapping) else getattr(each, "classes", None)
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return list(names)
    return None
