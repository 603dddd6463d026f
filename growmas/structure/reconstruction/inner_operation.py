"""Inner operations: the matrix product inside a layer whose class has a forward pass of its own.

Many networks pad by themselves: the convolution of a "same padding" layer reads not the input of
the layer, but a padded copy. Run on a few random numbers, the layer shows whether it is one
convolution (or linear map) by its own weight of something that keeps channels apart; and at work,
what that is.

    >>> class Same(nn.Conv2d):
    ...     def forward(self, x):
    ...         return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)
    >>> layer = Same(2, 3, 3, stride=2)
    >>> is_convolution(layer), convolved(layer, (torch.rand(1, 2, 8, 8),), {}).shape
    (True, torch.Size([1, 2, 9, 9]))
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from growmas.preserving import preserving

_CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TOLERANCE = 1e-3


class _Found(Exception):
    """Ends a forward pass once the convolution is reached."""


class _Capture(TorchFunctionMode):
    """Notes the arguments of the first convolution by a weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._weight = weight
        self.arguments: dict[str, Any] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {**dict(zip(_ARGUMENTS, args, strict=False)), **(kwargs or {})}
        if func in _CONVOLUTIONS.values() and given.get("weight") is self._weight:
            self.arguments = given
            raise _Found
        return func(*args, **(kwargs or {}))


def convolved(conv: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the padded tensor that the convolution inside a layer slides over; None if none.

    Args:
        conv: The layer, with the attributes of `nn.Conv1d`, `Conv2d` or `Conv3d`.
        args: What it is called with.
        kwargs: Alike.
    """
    capture = _Capture(conv.weight)
    try:
        with capture:
            conv.forward(*args, **kwargs)
    except _Found:
        return _padded(capture.arguments, conv)
    return None


def is_convolution(conv: Any) -> bool:
    """Return True if a layer convolves its input, channel by channel padded, by its own weight."""

    def holds() -> bool:
        sizes = [
            gap * (size - 1) + 4 for size, gap in zip(conv.kernel_size, conv.dilation, strict=True)
        ]
        seen = torch.randn(2, conv.in_channels, *sizes).to(conv.weight)
        read, other = convolved(conv, (seen,), {}), torch.randn_like(seen)
        other[:, ::2] = seen[:, ::2]
        again = convolved(conv, (other,), {})
        if read is None or again is None or read.shape[1] != conv.in_channels:
            return False
        if not torch.equal(read[:, ::2], again[:, ::2]):
            return False
        wanted = _CONVOLUTIONS[len(sizes)](
            read, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups
        )
        return _close(conv.forward(seen), wanted)

    return _holds(conv, holds)


def is_linear(layer: Any) -> bool:
    """Return True if a layer maps its input by its weight [out, in] and its bias."""

    def holds() -> bool:
        seen = torch.randn(3, layer.in_features).to(layer.weight)
        return _close(layer.forward(seen), F.linear(seen, layer.weight, layer.bias))

    return _holds(layer, holds)


def _holds(layer: nn.Module, question: Callable[[], bool]) -> bool:
    """Return the answer to a question; no if the layer cannot run by itself."""
    try:
        with preserving(layer), torch.no_grad():
            return question()
    except Exception:  # whatever the forward pass of a class that is not known raises
        return False


def _padded(arguments: dict[str, Any], conv: Any) -> Tensor | None:
    """Return the input of a convolution with its padding; None if it is not what `conv` says."""
    spatial = len(conv.kernel_size)
    for name, usual in (("stride", 1), ("dilation", 1)):
        if _entries(arguments.get(name, usual), spatial) != tuple(getattr(conv, name)):
            return None
    padding: Any = arguments.get("padding", 0)
    if arguments.get("groups", 1) != conv.groups or padding == "same":
        return None
    around = [0] * spatial if padding == "valid" else _entries(padding, spatial)
    return F.pad(arguments["input"], [each for size in reversed(around) for each in (size, size)])


def _entries(value: Any, count: int) -> tuple[int, ...]:
    entries = tuple(value) if isinstance(value, tuple | list) else (value,)
    return entries * count if len(entries) == 1 else entries


def _close(given: Any, wanted: Tensor) -> bool:
    if not isinstance(given, Tensor) or given.shape != wanted.shape:
        return False
    return bool((given - wanted).norm() <= _TOLERANCE * wanted.norm())
