"""Gains of units: a factor for each output of a linear layer or a convolution.

A layer with gains computes g · (W x + b), with one number g for each unit it gives. Gains cost two
numbers per unit where biases are counted too, against the many of its weights, so that a task can
have its own (`StructuralManager(per_task=("gains", "biases"))`), while the weights stay or change
little. Folding them into weights and bias gives a plain layer that computes the same, to the bit.

    >>> import torch
    >>> layer = nn.Linear(3, 2)
    >>> x = torch.rand(4, 3)
    >>> plain = layer(x)
    >>> give_gain(layer)
    >>> torch.equal(layer(x), plain), layer.gain.tolist()
    (True, [1.0, 1.0])
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from growmas.structure.layers.axes import LayerAxes, TensorAxis, axes_of, register_layer
from growmas.structure.layers.class_names import qualified_name


class _Gained(nn.Module):
    """The part that layers with gains share.

    Attributes:
        gain: [channels], the factor of each output channel.
    """

    gain: nn.Parameter
    out_dim = 0  # of the weight, along which its output channels lie

    @property
    def scaled_weight(self) -> Tensor:
        """The weight with the gains folded in."""
        weight: Tensor = self._parameters["weight"]  # type: ignore[assignment]
        return weight * self.gain.view(-1, *[1] * (weight.dim() - 1 - self.out_dim))

    @property
    def scaled_bias(self) -> Tensor | None:
        """The bias with the gains folded in."""
        bias = self._parameters["bias"]
        return None if bias is None else bias * self.gain


class GainLinear(_Gained, nn.Linear):
    """A linear layer with a gain for each output: y = g · (W x + b)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the output, [..., in] → [..., out]."""
        return F.linear(input, self.scaled_weight, self.scaled_bias)


class GainConv1d(_Gained, nn.Conv1d):
    """A convolution over one axis with a gain for each output channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the output of the convolution."""
        output: Tensor = self._conv_forward(input, self.scaled_weight, self.scaled_bias)
        return output


class GainConv2d(_Gained, nn.Conv2d):
    """A convolution over two axes with a gain for each output channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the output of the convolution."""
        output: Tensor = self._conv_forward(input, self.scaled_weight, self.scaled_bias)
        return output


class GainConv3d(_Gained, nn.Conv3d):
    """A convolution over three axes with a gain for each output channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the output of the convolution."""
        output: Tensor = self._conv_forward(input, self.scaled_weight, self.scaled_bias)
        return output


class GainTransposedLinear(_Gained):
    """A linear layer that keeps its weight transposed, [in, out], with a gain for each output.

    It is what the `Conv1D` of transformers becomes, as in GPT-2.
    """

    out_dim = 1

    def forward(self, input: Tensor) -> Tensor:
        """Return the output, [..., in] → [..., out]."""
        return F.linear(input, self.scaled_weight.mT, self.scaled_bias)


GAINED: Mapping[str, type[_Gained]] = {
    "torch.nn.modules.linear.Linear": GainLinear,
    "torch.nn.modules.conv.Conv1d": GainConv1d,
    "torch.nn.modules.conv.Conv2d": GainConv2d,
    "torch.nn.modules.conv.Conv3d": GainConv3d,
    "transformers.pytorch_utils.Conv1D": GainTransposedLinear,
}
"""Qualified name of a layer type -> the same with gains."""


def can_have_gains(module: nn.Module | None) -> bool:
    """Return True for a layer that can be given gains and has none yet."""
    return qualified_name(type(module)) in GAINED


def has_gains(module: nn.Module) -> bool:
    """Return True for a layer with gains."""
    return isinstance(module, _Gained)


def give_gain(module: nn.Module) -> None:
    """Give a layer gains of 1, in place; its function, its other parameters and hooks stay."""
    gained, weight = GAINED[qualified_name(type(module))], cast(Tensor, module.weight)
    ones = torch.ones(weight.shape[gained.out_dim], dtype=weight.dtype, device=weight.device)
    vars(module)["plain_class"] = type(module)
    module.__class__ = gained
    module.register_parameter("gain", nn.Parameter(ones, requires_grad=weight.requires_grad))


def plain_class(module: nn.Module) -> type[nn.Module]:
    """Return the class of a layer, which it had before it was given gains."""
    return cast(type[nn.Module], vars(module).get("plain_class", type(module)))


@torch.no_grad()
def fold_gains(model: nn.Module) -> nn.Module:
    """Fold the gains of all layers into weights and biases, in place; return the model.

    The layers are plain ones afterwards and compute the same, to the bit. Optimizers do not
    follow: fold when training is over. A layer whose weight is tied to another layer's keeps its
    gains.

        >>> net = nn.Sequential(nn.Linear(3, 2))
        >>> give_gain(net[0])
        >>> fold_gains(net)
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
        )
    """
    held: dict[int, int] = {}
    for module in model.modules():
        for tensor in module._parameters.values():
            held[id(tensor)] = held.get(id(tensor), 0) + 1
    for module in model.modules():
        if not has_gains(module) or held[id(module._parameters["weight"])] > 1:
            continue
        gained: Any = module
        gained.weight.copy_(gained.scaled_weight)
        if gained.bias is not None:
            gained.bias.copy_(gained.scaled_bias)
        del gained.gain
        gained.__class__ = plain_class(module)
        del gained.plain_class
    return model


def _with_gain(module: nn.Module) -> LayerAxes | str:
    """Return the axes of a layer with gains: those of the plain one, and the gains."""
    plain = plain_class(module)
    bare = plain.__new__(plain)
    bare.__dict__.update(vars(module))
    found = axes_of(bare)
    if found is None:
        return f"a {plain.__name__} like this cannot be resized"
    return replace(found, out=(*found.out, TensorAxis("gain", 0, "norm", 1.0)))


for _gained in GAINED.values():
    register_layer(_gained, _with_gain)
