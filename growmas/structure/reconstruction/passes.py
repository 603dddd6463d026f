"""Passes: a network while data goes through it to be measured, and the batches of that data."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from growmas.batches import batch_size, to_device
from growmas.importance.attention import separate_attention
from growmas.preserving import preserving


@contextmanager
def measured(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode without gradients, attention layer by layer; then restore it."""
    with preserving(model), separate_attention(model, call_output=True), torch.no_grad():
        yield


def usable(batches: Iterable[Any], model: nn.Module) -> Iterator[Any]:
    """Yield the batches that are not empty, on the device of the model."""
    device = next(model.parameters()).device
    return (to_device(batch, device) for batch in batches if batch_size(batch) != 0)
