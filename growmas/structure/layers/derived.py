"""Subclasses of layers that compute with their weights first, by what they compute.

A convolution with weight standardisation (Big Transfer, NFNets) is an `nn.Conv2d`, but it divides
every row of its weights by its deviation, and may have a gain for each row:

    y = conv(x, γ · (W − mean W) / √(var W + ε)) + b

Its output channels are rows as in every convolution, and the gain goes along. Its input channels
are not free: a column of zeros changes the mean and deviation of every row, and so the columns that
read other channels. So a subclass with a forward of its own is tried once, on a copy with random
tensors: further tensors with an entry for each output channel are rows, too; if the layer without a
column of zeros gives something else, no input channel can be added; if with a column at zero it
gives something else than with the channel at zero that the column reads, none can be removed but
by a plan that says `approximate=True`. With weights divided by the length of their rows, channels
can be added, but not removed.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from growmas.structure.layers.axes import COMPLETIONS, LayerAxes, TensorAxis
from growmas.structure.layers.channelwise import MOST_ENTRIES

_BASES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CHANGED = "its weights are computed from all that it reads, so that each channel changes them all"


@dataclass(frozen=True)
class _Difference:
    """The axes that a subclass has beyond those of its base, and how it takes other inputs."""

    further: tuple[TensorAxis, ...] = ()
    grows: bool = True
    shrinks: bool = True


_KNOWN: WeakKeyDictionary[nn.Module, _Difference] = WeakKeyDictionary()
"""What was found, so that every module is tried only once."""


def completed(module: nn.Module, axes: LayerAxes) -> LayerAxes:
    """Return the axes of a subclass with those of its further tensors."""
    if module not in _KNOWN:
        _KNOWN[module] = _difference(module, axes)
    found = _KNOWN[module]
    if found == _Difference():
        return axes
    return replace(
        axes,
        out=(*axes.out, *found.further),
        in_no_shrink=_CHANGED if not found.shrinks else "",
        in_no_grow=_CHANGED if not found.grows else "",
    )


def _difference(module: nn.Module, axes: LayerAxes) -> _Difference:
    bases = (k for k in type(module).__mro__ if k in _BASES)
    base, weight = next(bases, None), module._parameters.get("weight")
    if base is None or weight is None or type(module).forward is base.forward:
        return _Difference()
    held = module._modules or module._forward_pre_hooks or weight.numel() > MOST_ENTRIES
    if held or getattr(module, "groups", 1) > 1:
        return _Difference()
    try:
        trial = _Trial(copy.deepcopy(module).eval(), axes)
        further = tuple(trial.further())
        return _Difference(further, trial.grows(), trial.shrinks())
    except Exception:
        return _Difference()


class _Trial:
    """Runs of a copy of a layer with random tensors."""

    def __init__(self, module: Any, axes: LayerAxes) -> None:
        self._module, self._axes = module, axes
        self._random = torch.Generator().manual_seed(0)
        self._columns = next(axis for axis in axes.into if axis.tensor == "weight")
        with torch.no_grad():
            for parameter in module._parameters.values():
                if parameter is not None:
                    drawn = torch.rand(parameter.shape, generator=self._random) + 0.5
                    parameter.copy_(drawn)
        kernel = getattr(module, "kernel_size", ())
        reach = [
            1 + (k - 1) * d for k, d in zip(kernel, getattr(module, "dilation", ()), strict=True)
        ]
        shape = (1, axes.channels(module, "in"), *reach)  # a single position is enough
        self._x = torch.randn(shape, generator=self._random).to(module.weight)

    @torch.no_grad()
    def _run(self, x: Tensor) -> Tensor:
        y: Tensor = self._module(x)
        return y

    def further(self) -> Iterator[TensorAxis]:
        """Give the axes of tensors with an entry for each output channel that the base lacks."""
        known = {axis.tensor for axis in (*self._axes.out, *self._axes.into)}
        rows = self._axes.channels(self._module, "out")
        held = {**self._module._parameters, **self._module._buffers}
        for name, tensor in held.items():
            if name in known or tensor is None or tensor.numel() != rows or rows < 2:
                continue
            dim = next(d for d, length in enumerate(tensor.shape) if length > 1)
            yield TensorAxis(name, dim, "norm", float(not self._is_added(tensor)))

    @torch.no_grad()
    def _is_added(self, tensor: Tensor) -> bool:
        """Return True if a tensor counts where the input is zero."""
        before, kept = self._run(self._x * 0), tensor.clone()
        tensor.mul_(2.0)
        after = self._run(self._x * 0)
        tensor.copy_(kept)
        return not torch.allclose(before, after)

    @torch.no_grad()
    def shrinks(self) -> bool:
        """Return True if a column at zero is as good as none."""
        silent, kept = self._x.clone(), self._module.weight.clone()
        silent.select(1, 0).zero_()
        expected = self._run(silent)
        self._module.weight.select(self._columns.dim, 0).zero_()
        found = self._run(self._x)
        self._module.weight.copy_(kept)
        return torch.allclose(expected, found, rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def grows(self) -> bool:
        """Return True if the layer without a column of zeros gives the same."""
        module = copy.deepcopy(self._module)
        module.weight.select(self._columns.dim, 0).zero_()
        expected = module(self._x)
        rest = range(1, module.weight.shape[self._columns.dim])
        where = torch.tensor([*rest], device=module.weight.device)
        module.weight = nn.Parameter(module.weight.index_select(self._columns.dim, where))
        for size in self._axes.in_size:
            setattr(module, size.name, len(where))
        found = module(self._x.index_select(1, where))
        return torch.allclose(expected, found, rtol=1e-4, atol=1e-5)


COMPLETIONS.append(completed)
