"""What a batch is: how it goes through a model, and how it is cut into samples.

A batch is a tensor [N, ...], a tuple or list whose first entry is the input, or a dict of
keyword arguments. Anything else needs a `forward` of the caller's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import DataError

Forward = Callable[[nn.Module, Any], Any]

LABEL_KEYS = frozenset({"label", "labels", "target", "targets"})


def default_forward(model: nn.Module, batch: Any) -> Any:
    """Call `model` on the inputs of `batch`; labels in it are left aside.

    Args:
        model: The network.
        batch: Tensor: `model(batch)`. Tuple or list: `model(batch[0])`. Dict: `model(**batch)`
            without the keys label, labels, target and targets.

    Raises:
        DataError: The batch is none of these.
    """
    if isinstance(batch, Tensor):
        return model(batch)
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Tensor):
        return model(batch[0])
    if isinstance(batch, Mapping):
        return model(**{key: value for key, value in batch.items() if key not in LABEL_KEYS})
    raise DataError(
        f"a batch of type {type(batch).__name__} cannot be passed to the model: give a tensor, "
        "a tuple (inputs, ...), a dict of keyword arguments, or forward=lambda model, batch: ..."
    )


def check_batches(batches: Any) -> None:
    """Refuse one batch where batches are expected.

    Raises:
        DataError: Says how to give one batch.
    """
    if isinstance(batches, Tensor | Mapping) or not isinstance(batches, Iterable):
        raise DataError(
            f"batches is a {type(batches).__name__}: expected an iterable of batches, such as a "
            "DataLoader; give a single batch as [batch], a large tensor as tensor.split(256)"
        )


def to_device(batch: Any, device: torch.device) -> Any:
    """The same batch with its tensors on `device`."""
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def batch_size(batch: Any) -> int | None:
    """Samples in a batch of tensors; None where the batch cannot be cut into samples."""
    sizes = {tensor.shape[0] if tensor.dim() else -1 for tensor in _tensors(batch)}
    return sizes.pop() if len(sizes) == 1 and -1 not in sizes else None


def cut(batch: Any, start: int, stop: int) -> Any:
    """Samples `start` to `stop` of a batch of tensors."""
    return map_tensors(batch, lambda tensor: tensor[start:stop])


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [t for value in batch.values() for t in _tensors(value)]
    if isinstance(batch, tuple | list):
        return [t for value in batch for t in _tensors(value)]
    return []


def map_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of (named) tuples, lists and dicts, `change` applied to every tensor."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: map_tensors(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [map_tensors(value, change) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


_OF_SHAPES = ("shape", "size of tensor", "dimension", "channels")
"""What torch's errors about shapes speak of; other errors are not of the data."""


@contextmanager
def data_that_fits() -> Iterator[None]:
    """Say of data whose shape the network cannot take that it is the data.

    Raises:
        DataError: With what torch says of the shapes.
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
