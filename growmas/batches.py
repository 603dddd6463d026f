"""Batches, and the forward pass of a batch through a model.

A batch is a tensor [N, ...], a tuple or list whose first entry is the input, or a dict of
keyword arguments. Any other batch needs a `forward` function from the caller.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from growmas.errors import DataError

Forward = Callable[[nn.Module, Any], Any]
"""(model, batch) -> output."""

LABEL_KEYS = frozenset({"label", "labels", "target", "targets"})
"""Keys of a dict batch that are not passed to the model."""


def default_forward(model: nn.Module, batch: Any) -> Any:
    """Call `model` on the inputs of `batch`, without its labels.

    Args:
        model: The network.
        batch: Tensor or PackedSequence: `model(batch)`. Tuple or list: `model(batch[0])`. Dict:
            `model(**batch)` without the keys label, labels, target and targets.

    Raises:
        DataError: The batch is none of these.
    """
    if isinstance(batch, Tensor | PackedSequence):
        return model(batch)
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Tensor | PackedSequence):
        return model(batch[0])
    if isinstance(batch, Mapping):
        return model(**{key: value for key, value in batch.items() if key not in LABEL_KEYS})
    raise DataError(
        f"a batch of type {type(batch).__name__} cannot be passed to the model: give a tensor, "
        "a tuple (inputs, ...), a dict of keyword arguments, or forward=lambda model, batch: ..."
    )


def example_forward(model: nn.Module, example_inputs: Any) -> Any:
    """Call `model` on a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(example_inputs, Mapping):
        return model(**example_inputs)
    if isinstance(example_inputs, tuple | list):
        return model(*example_inputs)
    return model(example_inputs)


def float_tensors(nest: Any) -> list[Tensor]:
    """Return the floating-point tensors of a nest of tuples, lists and dicts, in order."""
    if isinstance(nest, Tensor):
        return [nest] if nest.is_floating_point() else []
    if isinstance(nest, Mapping):
        nest = list(nest.values())
    parts = nest if isinstance(nest, tuple | list) else ()
    return [tensor for part in parts for tensor in float_tensors(part)]


def check_batches(batches: Any) -> None:
    """Refuse a single batch where an iterable of batches is expected.

    Raises:
        DataError: `batches` is a tensor, a dict, or not iterable.
    """
    if isinstance(batches, Tensor | Mapping) or not isinstance(batches, Iterable):
        raise DataError(
            f"batches is a {type(batches).__name__}: expected an iterable of batches, such as a "
            "DataLoader; give a single batch as [batch], a large tensor as tensor.split(256)"
        )


def check_forward(forward: object) -> None:
    """Refuse a `forward` that is not callable.

    Raises:
        DataError: `forward` is neither None nor callable.
    """
    if forward is not None and not callable(forward):
        raise DataError(
            f"forward={forward!r:.80} is a {type(forward).__name__}: expected a function of "
            "(model, batch) that returns the output, such as forward=lambda model, batch: "
            "model(batch[0]); leave it out to call the model on the inputs of the batch"
        )


def reusable(batches: Any) -> Any:
    """Return batches that can be iterated over several times: an iterator becomes a list."""
    return list(batches) if isinstance(batches, Iterator) else batches


def to_device(batch: Any, device: torch.device) -> Any:
    """Return `batch` with its tensors on `device`."""
    if isinstance(batch, PackedSequence):
        return batch.to(device)  # type: ignore[arg-type]  # typed for dtypes alone
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def batch_size(batch: Any) -> int | None:
    """Return the number of samples; None if the tensors do not agree on their first dimension."""
    if isinstance(batch, PackedSequence):
        return int(batch.batch_sizes[0])
    sizes = {tensor.shape[0] if tensor.dim() else -1 for tensor in _tensors(batch)}
    return sizes.pop() if len(sizes) == 1 and -1 not in sizes else None


def cut(batch: Any, start: int, stop: int) -> Any:
    """Return samples `start` to `stop` of a batch whose tensors have the samples first."""
    return map_tensors(batch, lambda tensor: tensor[start:stop])


def leading_size(batch: Any) -> int | None:
    """Return the number of samples in the first entry of the batch that has some."""
    if isinstance(batch, PackedSequence):
        return int(batch.batch_sizes[0])
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.dim() else None
    entries = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(batch, Mapping | tuple | list):
        return None
    return next((size for entry in entries if (size := leading_size(entry)) is not None), None)


def check_batch(batch: Any, where: str) -> None:
    """Refuse tensors without plain strides, such as sparse ones, or without values.

    Raises:
        DataError: Names the layout or the device, and the remedy.
    """
    for tensor in _tensors(batch):
        if tensor.is_meta:
            raise DataError(
                f"{where} has a tensor on the meta device, which has no values: give the data "
                "itself, on the device of the model"
            )
        if tensor.layout != torch.strided or tensor.is_nested:
            kind = "nested" if tensor.is_nested else str(tensor.layout)
            raise DataError(
                f"{where} has a tensor of layout {kind}: expected dense tensors, whose samples can "
                "be told apart; give tensor.to_dense(), or a padded tensor with a mask"
            )


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, PackedSequence):
        return [batch.data]
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [t for value in batch.values() for t in _tensors(value)]
    if isinstance(batch, tuple | list):
        return [t for value in batch for t in _tensors(value)]
    return []


def map_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply `change` to every tensor in nested (named) tuples, lists and dicts.

    Of a `PackedSequence` it is applied to the data, which must keep its rows.
    """
    if isinstance(batch, PackedSequence):
        return batch._replace(data=change(batch.data))
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: map_tensors(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [map_tensors(value, change) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


_OF_SHAPES = ("shape", "size of tensor", "dimension", "channels")
"""Words in torch's errors about shapes; other errors are not about the data."""


@contextmanager
def data_that_fits() -> Iterator[None]:
    """Turn torch's errors about shapes into a `DataError` about the batch.

    Raises:
        DataError: The network cannot take a batch of this shape; includes torch's message.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in _OF_SHAPES):
            raise
        raise DataError(
            f"a batch does not go through the network: {error}. Nothing was changed; give batches "
            "whose samples have the shape the network takes, or forward=lambda model, batch: ..."
        ) from error
