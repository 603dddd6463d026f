"""Layers known by what they compute: norms and linear layers of classes that are not registered.

A class of another package may be a norm or a linear layer under any name. Such a module is run on
random numbers, with random parameters in place of its own, and compared with the formulas

    γ · (x − x̄) / √(v + ε) + β          over the last axis, or over axis 1 of images
    γ · x / √(mean(x²) + ε)             the same; with 1 + γ instead of γ as well
    x Wᵀ + b  and  x W + b              over the last axis

A match within rounding on inputs of two scales, of which the smaller makes ε count, is taken for
the layer. Only modules with a few parameters are tried, each once. A norm may have modules without
parameters below, such as the activation behind it, which are left out of the comparison.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from growmas.structure.layers.axes import PROBES, LayerAxes, Side, Size, TensorAxis
from growmas.structure.layers.norms import norm_axes

_SCALES = (1.0, 1e-3)
_OUT = ("out_features", "out_channels", "nf", "out_dim", "dim_out", "output_size")
_IN = ("in_features", "in_channels", "nx", "in_dim", "dim_in", "input_size")

Formula = Callable[[Tensor, dict[str, Tensor]], Tensor]


def probed(module: nn.Module) -> LayerAxes | None:
    """Return the axes of a module that computes a norm or a linear map, or None."""
    parameters = {name: p for name, p in module._parameters.items() if p is not None}
    if not 1 <= len(parameters) <= 2 or module._forward_pre_hooks:
        return None
    below = [child for child in module._modules.values() if child is not None]
    if any(child._modules or child._parameters or child._buffers for child in below):
        return None
    if not all(p.is_floating_point() and p.numel() for p in parameters.values()):
        return None
    dimensions = sorted(p.dim() for p in parameters.values())
    if dimensions in ([1], [1, 1]) and len({len(p) for p in parameters.values()}) == 1:
        with _without_modules_below(module):
            return _probed_norm(module, parameters)
    if dimensions in ([2], [1, 2]) and not below:
        return _probed_linear(module, parameters)
    return None


@contextmanager
def _without_modules_below(module: nn.Module) -> Iterator[None]:
    """Let the activation, or the dropout, behind a norm do nothing while the context lasts."""
    below = dict(module._modules)
    module._modules.update(dict.fromkeys(below, nn.Identity()))
    try:
        yield
    finally:
        module._modules.update(below)


def _probed_norm(module: nn.Module, parameters: Mapping[str, Tensor]) -> LayerAxes | None:
    width = len(next(iter(parameters.values())))
    if width < 2:
        return None
    for along, shape in ((-1, (2, 3, width)), (1, (2, width, 3, 3))):
        seen = _seen(module, shape)
        if seen is None:
            continue
        for gain, bias in _gains_and_biases(parameters):
            for centred in (True, False):
                for offset in (0.0, 1.0):
                    for eps in _small_numbers(module):

                        def norm(x: Tensor, p: dict[str, Tensor]) -> Tensor:
                            return _normed(x, p, gain, bias, centred, offset, eps[1], along)  # noqa: B023

                        if _matches(seen, norm):
                            return _axes_of_norm(module, gain, bias, centred, offset, eps[0], along)
    return None


def _axes_of_norm(
    module: nn.Module, gain: str, bias: str, centred: bool, offset: float, eps: str, along: int
) -> LayerAxes:
    axes = norm_axes(centred=centred, eps=eps, gain=gain, bias=bias, along=along)
    width = len(module._parameters[gain])  # type: ignore[arg-type]
    sizes = tuple(
        Size(name, (lambda m, n: (n,)) if isinstance(value, tuple) else None)
        for name, value in vars(module).items()
        if (type(value) is int and value == width) or (type(value) is tuple and value == (width,))
    )
    axes = replace(axes, out_size=sizes)
    if axes.norm is not None:
        axes = replace(axes, norm=replace(axes.norm, offset=offset) if eps else None)
    out = tuple(replace(axis, fresh=0.0) if offset else axis for axis in axes.out)
    return replace(axes, out=out)


def _normed(
    x: Tensor,
    parameters: dict[str, Tensor],
    gain: str,
    bias: str,
    centred: bool,
    offset: float,
    eps: float,
    along: int,
) -> Tensor:
    if centred:
        x = x - x.mean(along, keepdim=True)
    shape = [1] * x.dim()
    shape[along] = -1
    y = x * (x.square().mean(along, keepdim=True) + eps).rsqrt()
    y = y * (parameters[gain] + offset).view(shape)
    return y + parameters[bias].view(shape) if bias in parameters else y


def _gains_and_biases(parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    names = list(parameters)
    if len(names) == 1:
        yield names[0], "bias"
    else:
        yield names[0], names[1]
        yield names[1], names[0]


def _small_numbers(module: nn.Module) -> Iterator[tuple[str, float]]:
    """Give what may be ε: an attribute, or a number that is written into the code."""
    for name, value in vars(module).items():
        if type(value) is float and 0 < value < 0.1:
            yield name, value
    for value in (0.0, 1e-6, 1e-5, 1e-8, 1e-12, 1e-3, torch.finfo(torch.float32).eps):
        yield "", value


def _probed_linear(module: nn.Module, parameters: Mapping[str, Tensor]) -> LayerAxes | None:
    weight = next(name for name, p in parameters.items() if p.dim() == 2)
    bias = next((name for name in parameters if name != weight), "bias")
    rows, columns = parameters[weight].shape
    for out, into in ((0, 1), (1, 0)):
        seen = _seen(module, (2, 3, (rows, columns)[into]))

        def linear(x: Tensor, p: dict[str, Tensor]) -> Tensor:
            y = x @ (p[weight].T if out == 0 else p[weight])  # noqa: B023
            return y + p[bias] if bias in p else y

        if seen is not None and _matches(seen, linear):
            lengths = (rows, columns)
            return _axes_of_linear(module, weight, bias, out, into, lengths)
    return None


def _axes_of_linear(
    module: nn.Module, weight: str, bias: str, out: int, into: int, lengths: tuple[int, int]
) -> LayerAxes:
    def length(module: nn.Module, side: Side) -> int:
        return module.get_parameter(weight).shape[into if side == "in" else out]

    def sizes(names: tuple[str, ...], value: int) -> tuple[Size, ...]:
        return tuple(Size(name) for name in names if vars(module).get(name) == value)

    return LayerAxes(
        out=(TensorAxis(weight, out, "out"), TensorAxis(bias, 0, "out")),
        into=(TensorAxis(weight, into, "in"),),
        out_size=sizes(_OUT, lengths[out]),
        in_size=sizes(_IN, lengths[into]),
        length=length,
        unit="neurons",
        along=-1,
    )


Seen = list[tuple[Tensor, dict[str, Tensor], Tensor]]
"""Inputs, parameters and outputs."""


@torch.no_grad()
def _seen(module: nn.Module, shape: tuple[int, ...]) -> Seen | None:
    """Run a module on random inputs with random parameters; None where it does not run."""
    generator = torch.Generator().manual_seed(0)
    seen = []
    for scale in _SCALES:
        parameters = {
            name: torch.rand(p.shape, generator=generator).to(p) + 0.5
            for name, p in module._parameters.items()
            if p is not None
        }
        first = next(iter(parameters.values()))
        x = (torch.randn(shape, generator=generator) * scale).to(first)
        try:
            y: Any = functional_call(module, parameters, (x,))
        except Exception:
            return None
        if not isinstance(y, Tensor) or y.dtype != first.dtype:
            return None
        seen.append((x.double(), {n: p.double() for n, p in parameters.items()}, y.double()))
    return seen


def _matches(seen: Seen, formula: Formula) -> bool:
    for x, parameters, y in seen:
        expected = formula(x, parameters)
        if expected.shape != y.shape:
            return False
        if float((expected - y).abs().max()) > 1e-4 * float(expected.abs().max()):
            return False
    return True


PROBES.append(probed)
