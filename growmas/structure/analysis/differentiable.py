"""Gradients of everything that a model computes with, so that autograd shows all of it.

Parameters require gradients while the model is traced, also frozen ones. So do buffers, which are
multiplied or added along channels as parameters are: a frozen norm, a table of positions, the
zeros in the place of a bias. A model that writes to its buffers in place, or gives them to an
operation without a derivative for them, cannot run like that; then buffers are left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from growmas.structure.analysis.graph import is_leaf


def require_gradients(model: nn.Module) -> None:
    """Let all floating-point parameters require gradients."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


@contextmanager
def buffers_in_the_graph(buffers: list[Tensor]) -> Iterator[None]:
    """Let buffers require gradients while the context lasts."""
    try:
        for buffer in buffers:
            buffer.requires_grad_(True)
        yield
    finally:
        for buffer in buffers:
            buffer.requires_grad_(False)


def buffers_outside_layers(model: nn.Module) -> list[Tensor]:
    """Return the floating-point buffers of modules that are not single nodes of the graph."""
    found = {
        id(buffer): buffer
        for module in model.modules()
        if any(buffer is not None for buffer in module._buffers.values()) and not is_leaf(module)
        for buffer in module._buffers.values()
        if buffer is not None and buffer.is_floating_point() and buffer.numel() > 1
    }
    return [b for b in found.values() if b.is_leaf and not b.requires_grad]
