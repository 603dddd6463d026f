"""Layers that work on every channel alone with numbers from buffers, by what they compute.

A frozen norm keeps its gains and statistics in buffers, under any class name, and may give them to
an operation that has no derivative for them, so that autograd does not show them. Such a module is
taken for a layer that keeps its channels apart, if on random numbers

- a change of one channel of the input changes that channel of the output, and no other;
- the channels of the input and those of all tensors in another order give the output in that order.

A fresh entry of a tensor is 1 if the slope of the output depends on that tensor, as on a gain or
a variance, and 0 if it does not, as on a mean. Each module is tried once, on a copy.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

import growmas.structure.layers.probes  # noqa: F401 (these say more, and are asked first)
from growmas.structure.layers.axes import PROBES, LayerAxes, Side, Size, TensorAxis

MOST_ENTRIES = 2**22
"""Modules with larger tensors are not copied to be tried."""


def channelwise(module: nn.Module) -> LayerAxes | None:
    """Return the axes of a module that works on every channel alone, or None."""
    if module._modules or not any(b is not None and b.dim() for b in module._buffers.values()):
        return None
    held = {**module._parameters, **module._buffers}
    tensors = {n: t for n, t in held.items() if t is not None and t.is_floating_point()}
    small = sum(t.numel() for t in tensors.values()) <= MOST_ENTRIES
    if not tensors or not small or module._forward_pre_hooks:
        return None
    try:
        trial = copy.deepcopy(module).eval()
    except Exception:
        return None
    for width in dict.fromkeys(reversed(next(iter(tensors.values())).shape)):
        dims = {name: only_axis(tensor, width) for name, tensor in tensors.items()}
        if width > 1 and all(dim is not None for dim in dims.values()):
            axes = _axes(trial, width, {n: d for n, d in dims.items() if d is not None})
            if axes is not None:
                return axes
    return None


def only_axis(tensor: Tensor, width: int) -> int | None:
    """Return the only axis of that length."""
    dims = [dim for dim, length in enumerate(tensor.shape) if length == width]
    return dims[0] if len(dims) == 1 else None


def _axes(module: nn.Module, width: int, dims: Mapping[str, int]) -> LayerAxes | None:
    first, dim = next(iter(dims.items()))

    def length(module: nn.Module, side: Side) -> int:
        return int(getattr(module, first).shape[dim])

    for shape, axis in shapes(width):
        trial = Trial(module, dims, shape, axis)
        if trial.keeps_channels_apart() and trial.follows_their_order():
            factors = {name: float(trial.is_factor(name)) for name in dims}
            if not any(factors.values()):
                return None  # what only adds is followed as a sum, and grows along a residual path
            attributes = [n for n, v in vars(module).items() if type(v) is int and v == width]
            return LayerAxes(
                out=tuple(TensorAxis(name, at, "norm", factors[name]) for name, at in dims.items()),
                out_size=tuple(map(Size, attributes)),
                length=length,
            )
    return None


def shapes(width: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Give shapes of inputs and the axis of their channels; the other lengths differ from it."""
    few = [length for length in (2, 3, 5) if length != width]
    n, size = few[0], few[1]
    yield (n, width, size, size), 1
    yield (n, size, width), 2
    yield (n, width), 1
    yield (n, width, size), 1
    yield (n, width, size, size, size), 1


class Trial:
    """Runs of a module with random tensors on a random input.

    Attributes:
        tensors: Name -> random tensor.
        x: The input.
        y: What the module gives for it; None if it does not run, or gives another shape.
        axis: The axis of the channels in both.
    """

    def __init__(
        self, module: nn.Module, dims: Mapping[str, int], shape: tuple[int, ...], axis: int
    ) -> None:
        self._module, self._dims, self.axis = module, dims, axis
        random = torch.Generator().manual_seed(0)
        held = {name: getattr(module, name) for name in dims}
        self.tensors = {
            name: (torch.rand(t.shape, generator=random) + 0.5).to(t) for name, t in held.items()
        }
        self.x = torch.randn(shape, generator=random).to(next(iter(held.values())))
        self.y = self.run(self.tensors, self.x)

    @torch.no_grad()
    def run(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor | None:
        """Return what the module gives with other tensors for another input, or None."""
        try:
            y: Any = functional_call(self._module, dict(tensors), (x,))
        except Exception:
            return None
        fits = isinstance(y, Tensor) and y.shape == x.shape and y.isfinite().all()
        return y if fits else None

    def keeps_channels_apart(self) -> bool:
        """Return True if a change of one channel changes that channel alone."""
        other = self.x.clone()
        other.select(self.axis, 1).add_(1.0)
        y = self.run(self.tensors, other)
        if y is None or self.y is None:
            return False
        moved = (y - self.y).abs().transpose(0, self.axis).flatten(1).amax(1)
        return bool(moved[1] > 0) and int((moved > 0).sum()) == 1

    def follows_their_order(self) -> bool:
        """Return True if input and tensors in another order give the output in that order."""
        width = self.x.shape[self.axis]
        order = torch.arange(width).roll(1).to(self.x.device)
        turned = {name: t.index_select(self._dims[name], order) for name, t in self.tensors.items()}
        y = self.run(turned, self.x.index_select(self.axis, order))
        if y is None or self.y is None or torch.equal(y, self.y):
            return False
        return torch.allclose(y, self.y.index_select(self.axis, order), rtol=1e-4, atol=1e-5)

    def is_factor(self, name: str) -> bool:
        """Return True if the slope of the output depends on a tensor."""

        def slope(tensors: Mapping[str, Tensor]) -> Tensor | None:
            one, other = self.run(tensors, self.x), self.run(tensors, self.x + 1.0)
            return None if one is None or other is None else other - one

        before = slope(self.tensors)
        after = slope({**self.tensors, name: self.tensors[name] * 0.5})
        if before is None or after is None:
            return True
        return not torch.allclose(before, after, rtol=1e-3, atol=1e-4)


PROBES.append(channelwise)
