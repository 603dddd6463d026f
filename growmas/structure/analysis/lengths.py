"""Lengths: widths that the code of a model reads from one tensor and gives to another.

Many layers take the width from what they read, and cut or join other channels by it:

    n, t, c = x.shape
    q = self.q(x).view(n, t, self.heads, c // self.heads)
    ...
    return self.proj(y.transpose(1, 2).reshape(n, t, c))

Then the channels of `q` can only change together with those of `x`, although no operation brings
them together. So while the model is traced, the lengths of a tensor are `Length`s: integers that
know whose they are. Where one arrives in the shape of a `view`, a `LengthUse` is written down (see
`coupling`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Length(int):
    """An integer that knows which axis of which tensor has that length, or a multiple of it."""

    function: Any
    axis: int
    dimensions: int

    def __floordiv__(self, parts: int) -> int:
        """Divide a width by a number of heads."""
        return _length(int(self) // int(parts), self.function, self.axis, self.dimensions)


@dataclass(frozen=True, eq=False)
class LengthUse:
    """A length of one tensor in the shape of another.

    Attributes:
        source: Node in the autograd graph of the tensor that has the length.
        source_axis: Its axis, counted from the front.
        dimensions: The number of its axes.
        function: Node of the operation that gives a tensor another shape.
        axis: The axis of its output, counted from the front.
    """

    source: Any
    source_axis: int
    dimensions: int
    function: Any
    axis: int


@contextmanager
def tracked_lengths() -> Iterator[list[LengthUse]]:
    """Write down, while the context lasts, which lengths shapes are made of."""
    uses: list[LengthUse] = []
    with _Watch(uses):
        yield uses


def _length(value: int, function: Any, axis: int, dimensions: int) -> Length:
    length = Length(value)
    length.function, length.axis, length.dimensions = function, axis, dimensions
    return length


class _Watch(TorchFunctionMode):
    """Looks at what reads a shape, and at what gives a tensor another one."""

    def __init__(self, uses: list[LengthUse]) -> None:
        super().__init__()
        self._uses = uses

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _READS:
            return _known(args[0], result, args[1:] or tuple(kwargs.values()))
        if func in _SHAPES and isinstance(result, Tensor) and result.grad_fn is not None:
            shape = kwargs.get("shape", args[1] if len(args) == 2 else args[1:])
            for axis, length in enumerate(shape if isinstance(shape, tuple | list) else ()):
                if isinstance(length, Length):
                    source = length.function, length.axis, length.dimensions
                    self._uses.append(LengthUse(*source, result.grad_fn, axis))
        return result


def _known(tensor: Tensor, lengths: Any, axes: Sequence[Any]) -> Any:
    """Return the lengths of a tensor as such that know whose they are."""
    function, dimensions = tensor.grad_fn, tensor.dim()
    if function is None:
        return lengths
    if isinstance(lengths, torch.Size):
        return torch.Size(_length(n, function, axis, dimensions) for axis, n in enumerate(lengths))
    return _length(lengths, function, axes[0] % dimensions, dimensions) if axes else lengths


_READS = frozenset({Tensor.shape.__get__, Tensor.size})  # type: ignore[attr-defined]
_SHAPES = frozenset({Tensor.view, Tensor.reshape, Tensor.expand, torch.reshape})
