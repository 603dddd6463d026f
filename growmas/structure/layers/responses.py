"""Response norms, by what they compute: each channel over the channels' mean, or their sum.

ConvNeXt V2 scales every channel by its norm over all positions, divided by the mean of these norms
over the channels (global response normalisation):

    y = x + γ · x · |x| / (mean |x| + ε) + β

A channel more changes the mean, and so all others. A channel of zeros changes it by a factor that
is known, d/(d + k) for k channels, which γ and ε can take up. A module is taken for such a norm if
on random numbers

- the channels of input and tensors in another order give the output in that order;
- a change of one channel changes others;
- with channels of zeros behind the others, and the gains times a power of the share of the others,
  the others come out as before, the new ones are zero, and gradients reach them.

The power is 1 for a mean, ½ for the root of a mean of squares, and 0 for a sum. Channels can be
removed approximately, as those before a LayerNorm.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from growmas.structure.layers.axes import PROBES, LayerAxes, Side, Size, TensorAxis
from growmas.structure.layers.channelwise import MOST_ENTRIES, Trial, only_axis
from growmas.structure.layers.normalisation import Normalisation
from growmas.structure.layers.norms import STATISTICS

_FRESH = 3
"""Channels of zeros that are added on trial."""


def response_norm(module: nn.Module) -> LayerAxes | None:
    """Return the axes of a module that divides by a mean or sum over its channels, or None."""
    tensors = {name: p for name, p in module._parameters.items() if p is not None}
    if module._modules or module._forward_pre_hooks or not 1 <= len(tensors) <= 3:
        return None
    if not all(t.is_floating_point() and 1 < t.numel() <= MOST_ENTRIES for t in tensors.values()):
        return None
    width = next(iter(tensors.values())).numel()
    dims = {name: only_axis(t, width) for name, t in tensors.items() if t.numel() == width}
    known = {name: dim for name, dim in dims.items() if dim is not None}
    if len(known) < len(tensors):
        return None
    try:
        trial = copy.deepcopy(module).eval()
    except Exception:
        return None
    return _axes(trial, width, known)


def _axes(module: nn.Module, width: int, dims: Mapping[str, int]) -> LayerAxes | None:
    sizes = {
        name: type(value)
        for name, value in vars(module).items()
        if (type(value) is int and value == width) or (type(value) is tuple and value == (width,))
    }
    for shape, axis in _shapes(width):
        trial = Trial(module, dims, shape, axis)
        if trial.y is None or trial.keeps_channels_apart() or not trial.follows_their_order():
            continue
        wider = _Wider(trial, module, dims, sizes)
        norm = next((each for each in wider.candidates() if wider.keeps(each)), None)
        return None if norm is None else _of_norm(norm, wider.factors, dims, sizes)
    return None


def _of_norm(
    norm: Normalisation, factors: set[str], dims: Mapping[str, int], sizes: Mapping[str, type]
) -> LayerAxes:
    first, dim = next(iter(dims.items()))

    def length(module: nn.Module, side: Side) -> int:
        return int(getattr(module, first).shape[dim])

    return LayerAxes(
        out=tuple(TensorAxis(n, at, "norm", float(n in factors)) for n, at in dims.items()),
        out_size=tuple(
            Size(name, (lambda m, n: (n,)) if kind is tuple else None)
            for name, kind in sizes.items()
        ),
        length=length,
        no_shrink=STATISTICS,
        no_grow=STATISTICS,
        norm=norm,
        approximate=True,
    )


def _shapes(width: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Give shapes of inputs and the axis of their channels; the other lengths differ from it."""
    n, size = [length for length in (2, 3, 5) if length != width][:2]
    yield (n, size, size, width), 3
    yield (n, width, size, size), 1
    yield (n, size, width), 2
    yield (n, width, size), 1
    yield (n, width), 1


class _Wider:
    """A module with channels of zeros behind those of a trial.

    Attributes:
        factors: The tensors that multiply.
    """

    def __init__(
        self, trial: Trial, module: nn.Module, dims: Mapping[str, int], sizes: Mapping[str, type]
    ) -> None:
        self._trial, self._module, self._dims = trial, copy.deepcopy(module), dims
        self.factors = {name for name in dims if trial.is_factor(name)}
        width = trial.x.shape[trial.axis]
        self._share = width / (width + _FRESH)
        for name, kind in sizes.items():
            wide = width + _FRESH
            setattr(self._module, name, (wide,) if kind is tuple else wide)

    def candidates(self) -> Iterator[Normalisation]:
        """Give what the norm may be: gain, power and ε, which may be written into the code."""
        small = [n for n, v in vars(self._module).items() if type(v) is float and 0 < v < 0.1]
        for eps in (*small, ""):
            for gain in sorted(self.factors):
                for power in (0.5, 1.0, 0.0):
                    yield Normalisation(False, gain, eps, power=power)

    def keeps(self, norm: Normalisation) -> bool:
        """Return True if the old channels come out as before, whatever the scale of the input."""
        return all(self._keeps(norm, scale) for scale in ((1.0, 1e-3) if norm.eps else (1.0,)))

    def _keeps(self, norm: Normalisation, scale: float) -> bool:
        trial, axis = self._trial, self._trial.axis
        x = trial.x * scale
        before = trial.run(trial.tensors, x)
        wide = _padded(x, axis, 0.0).requires_grad_(True)
        tensors = {
            name: _padded(
                tensor * (self._share**norm.power if name == norm.gain else 1.0),
                self._dims[name],
                float(name in self.factors),
            )
            for name, tensor in trial.tensors.items()
        }
        after = self._run(tensors, wide, norm.eps)
        if before is None or after is None:
            return False
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(after.sum(), wide)
        old = after.detach().narrow(axis, 0, before.shape[axis])
        fresh = after.detach().narrow(axis, before.shape[axis], _FRESH)
        reaches = gradient.narrow(axis, before.shape[axis], _FRESH)
        return (
            not bool(fresh.any())
            and bool(reaches.isfinite().all())
            and bool(reaches.any())
            and float((old - before).abs().max()) <= 1e-5 * float(before.abs().max())
        )

    def _run(self, tensors: Mapping[str, Tensor], x: Tensor, eps: str) -> Tensor | None:
        held = getattr(self._module, eps) if eps else 0.0
        try:
            if eps:
                setattr(self._module, eps, held * self._share)
            with torch.enable_grad():
                y: Any = functional_call(self._module, dict(tensors), (x,))
        except Exception:
            return None
        finally:
            if eps:
                setattr(self._module, eps, held)
        fits = isinstance(y, Tensor) and y.shape == x.shape and y.grad_fn is not None
        return y if fits else None


def _padded(tensor: Tensor, dim: int, value: float) -> Tensor:
    shape = list(tensor.shape)
    shape[dim] = _FRESH
    return torch.cat([tensor, tensor.new_full(shape, value)], dim)


PROBES.append(response_norm)
