"""Per-sample gradients of convolutions, plain and transposed, in any number of dimensions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from growmas.importance.gradients import Gather, Power, Products, magnitude_, piece

DEEP = 4
"""Positions for each output channel of a group, from which the library's way is faster."""

LARGE = 2**13
"""Positions of an image from which on samples are best taken one by one."""

_WEIGHT_GRADIENT: dict[int, Callable[..., Tensor]] = {
    1: conv1d_weight,
    2: conv2d_weight,
    3: conv3d_weight,
}


@dataclass(frozen=True, eq=False)
class Windows:
    """Gradients of a kernel that slides over an input: at every position δ times its window.

    Attributes:
        seen: [N, C, *space], G blocks of channels.
        delta: [N, O, *positions].
        shape: Shape of the kernel, [O, C / G, *extent].
        stride: One number per dimension; so are padding and dilation.
        padding: Number of zeros on each side.
        dilation: Distance between neighbours in a window.
    """

    seen: Tensor
    delta: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, bound: Mapping[str, Any], seen: Tensor, delta: Tensor) -> "Windows":
        """Make the windows of a call of a convolution from its arguments by name."""
        shape = bound["weight"].shape
        dims = len(shape) - 2
        stride, dilation = (_each(bound.get(name, 1), dims) for name in ("stride", "dilation"))
        padding = bound.get("padding", 0)
        if padding == "same":
            seen, padding = F.pad(seen, _around(shape[2:], dilation)), 0
        padding = (0,) * dims if padding == "valid" else _each(padding, dims)
        return cls(seen, delta, shape, stride, padding, dilation)

    @property
    def elements(self) -> int:
        """Number of elements of both factors of the products."""
        n, groups = len(self.delta), self._groups
        extent = self.shape[2:].numel()
        rows, positions = self.delta.shape[1] // groups, self.delta[0, 0].numel()
        return n * groups * positions * (rows + self.seen.shape[1] // groups * extent)

    @property
    def _groups(self) -> int:
        return self.seen.shape[1] // self.shape[1]

    def join(self, other: "Windows | Products") -> Products:
        """Further uses are further positions."""
        return self.products().join(other if isinstance(other, Products) else other.products())

    def products(self) -> Products:
        """Return the gradients as products, with every window copied."""
        n, groups = len(self.delta), self._groups
        left = self.delta.reshape(n, groups, self.delta.shape[1] // groups, -1).mT
        sides = [side for p in reversed(self.padding) for side in (p, p)]
        patches = F.pad(self.seen, sides) if any(sides) else self.seen
        if self.shape[2:].numel() == 1 and set(self.stride) == {1}:
            return Products(left, patches.reshape(n, groups, self.shape[1], -1).mT)
        for dim, (k, s, d) in enumerate(
            zip(self.shape[2:], self.stride, self.dilation, strict=True), start=2
        ):
            patches = patches.unfold(dim, d * (k - 1) + 1, s)[..., ::d]
        dims = len(self.stride)
        positions, windows = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
        rows = patches.permute(
            0, 1, *windows, *positions
        )  # positions last, so that copies are long runs
        return Products(left, rows.reshape(n, groups, self.shape[1:].numel(), -1).mT)

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the products summed over positions."""
        return self.products().dense(parameter)

    def gathered(self, gather: Gather) -> Products:
        """Make the rows of a sample its positions."""
        return self.products().gathered(gather)

    def add_to(self, total: Tensor, power: Power = 1) -> None:
        """Add Σ_n |gradient|^power, as products or by the library's own convolution.

        The library needs no copy of the windows: samples become groups of channels, so that the
        gradient of the weight comes out for each sample separately. On a CPU that takes between a
        third and all of the time of products, for windows of several entries on large images.
        Deeper layers have few positions and large weights, for which it takes up to twice as long.
        """
        step = 4 * piece(total.device) // max(1, self.shape.numel())
        positions, extent = self.delta[0, 0].numel(), self.shape[2:].numel()
        deep = extent == 1 or positions < DEEP * self.shape[0] // self._groups
        if step == 0 or deep or not _natively(self.seen):
            self.products().add_to(total, power)
            return
        if positions > LARGE:
            step = 1
        pieces = zip(torch.split(self.seen, step), torch.split(self.delta, step), strict=True)
        for seen, delta in pieces:
            n, rows = len(seen), self.shape[0]
            found = _WEIGHT_GRADIENT[len(self.stride)](
                seen.reshape(1, -1, *seen.shape[2:]),
                (n * rows, *self.shape[1:]),
                delta.reshape(1, -1, *delta.shape[2:]),
                self.stride,
                self.padding,
                self.dilation,
                n * self._groups,
            )
            total += magnitude_(found.view(n, *self.shape), power).sum(0)


def plain(bound: Mapping[str, Any], delta: Tensor) -> Windows:
    """Return the gradients of a convolution: every output position reads a window of the input."""
    return Windows.of(bound, bound["input"], delta)


def transposed(bound: Mapping[str, Any], delta: Tensor) -> Windows:
    """Return those of a transposed one: every input position writes a window of the output."""
    found = Windows.of(bound, delta, bound["input"])
    lists = zip(
        delta.shape[2:], found.shape[2:], found.stride, found.padding, found.dilation, strict=True
    )
    positions = [(length + 2 * p - d * (k - 1) - 1) // s + 1 for length, k, s, p, d in lists]
    surplus = [now - p for now, p in zip(positions, found.delta.shape[2:], strict=True)]
    if not any(surplus):
        return found
    sides = [side for s in reversed(surplus) for side in (0, s)]  # an output_padding ≥ stride
    return replace(found, delta=F.pad(found.delta, sides))


def _natively(values: Tensor) -> bool:
    """Return True if the library has fast convolutions with many groups for such tensors."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return values.device.type == "cpu" and values.dtype == torch.float32 and available


def _each(value: Any, dims: int) -> tuple[int, ...]:
    """Return one number for each dimension; a single number is repeated."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dims if len(values) == 1 else values


def _around(extent: torch.Size, dilation: tuple[int, ...]) -> list[int]:
    """Return the padding that keeps the number of positions; an odd zero goes last."""
    total = [d * (k - 1) for k, d in zip(extent, dilation, strict=True)]
    return [side for t in reversed(total) for side in (t // 2, t - t // 2)]
