"""Leaf modules: layers that are one node of the traced graph, as in `torch.fx`.

A worked example. A layer norm runs several operations, and so its output has a long graph behind
it; as a leaf module it has a single node, whose inputs are the layer's input and parameters:

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    >>> with as_single_nodes(net, lambda module: isinstance(module, nn.LayerNorm)) as calls:
    ...     output = net(torch.rand(1, 2))
    >>> function, layer = calls[0]
    >>> layer is net[1], output.grad_fn is function
    (True, True)
    >>> [given.name() for given, _ in function.next_functions if given]
    ['AddmmBackward0', 'torch::autograd::AccumulateGrad', 'torch::autograd::AccumulateGrad']
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import float_tensors

StructureForward = Callable[[nn.Module, Any], Any]
"""(model, example inputs) -> output."""


@contextmanager
def as_single_nodes(
    model: nn.Module, is_leaf: Callable[[nn.Module], bool]
) -> Iterator[list[tuple[Any, nn.Module]]]:
    """Let each leaf module be a single node of the autograd graph while the context lasts.

    Its outputs depend on its inputs and parameters through one node whose gradients are zero: the
    graph only says what reads what. Gives a list that fills with the function and the module of
    every call.
    """
    calls: list[tuple[Any, nn.Module]] = []
    leaves = [m for m in model.modules() if is_leaf(m) and "forward" not in vars(m)]
    for module in leaves:
        module.__dict__["forward"] = _single_node(module, calls)
    try:
        yield calls
    finally:
        for module in leaves:
            del module.__dict__["forward"]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch._C.DisableTorchFunction():  # the modes that watch the trace are slow
            ctx.inputs = [(t.shape, t.dtype, t.device) for t in tensors]
        # the same memory, but no view to autograd, which would forbid in-place operations on it
        return tuple(tensor.new_empty(0).set_(tensor) for tensor in tensors[:outputs])  # type: ignore[call-overload]

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        zeros = [torch.zeros(shape, dtype=t, device=d) for shape, t, d in ctx.inputs]
        return None, *zeros


def _single_node(module: nn.Module, calls: list[tuple[Any, nn.Module]]) -> Callable[..., Any]:
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            result = original(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            outputs = float_tensors(result)
            inputs = [*float_tensors((args, kwargs)), *module.parameters()]
        linked = _Node.apply(len(outputs), *outputs, *inputs)  # type: ignore[no-untyped-call]
        if linked and linked[0].grad_fn is not None:
            calls.append((linked[0].grad_fn, module))
        return _refilled(result, iter(linked))

    return forward


def _refilled(nest: Any, tensors: Iterator[Tensor]) -> Any:
    """Return the nest with its floating-point tensors replaced, in order."""
    if isinstance(nest, Tensor):
        return next(tensors) if nest.is_floating_point() else nest
    if isinstance(nest, Mapping):
        return {key: _refilled(value, tensors) for key, value in nest.items()}
    if isinstance(nest, tuple | list):
        parts = [_refilled(value, tensors) for value in nest]
        return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)
    return nest
