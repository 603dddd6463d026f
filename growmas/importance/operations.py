"""Rules: per-sample gradients in closed form, one short rule per operation of torch.

With a the input of an operation and δ the gradient of the objective at its output, the gradient
of sample n is Σ_p δ_np a_npᵀ for a weight that multiplies at positions p, and Σ_p δ_np x̂_np for
the gain of a norm. A rule returns these factors. Rules are for operations rather than for layers,
so that a weight is followed wherever it is used.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.importance import convolution
from growmas.importance.gradients import (
    Gradient,
    PerSample,
    Power,
    Products,
    Rows,
    factor,
    magnitude,
)
from growmas.importance.norms import channel_sums

Bound = Mapping[str, Any]
"""Arguments of a call by name."""


Gradients = Callable[[Bound, Tensor], dict[str, Gradient]]
"""(arguments, δ), cut to the same samples in their first dimension -> gradient by argument."""

RowDims = Callable[[Bound, torch.Size], int]
"""(arguments, shape of the output) -> number of leading dimensions that are rows."""


Direct = Callable[[Bound, Tensor, Mapping[str, Tensor], Power, bool], None]
"""(arguments, δ [N, O], sums by argument, power, True if the data are known to be ≥ 0): adds
Σ_n |gradient|^power to the sums."""


@dataclass(frozen=True)
class Rule:
    """The per-sample gradients of an operation, computed from one call of it.

    Attributes:
        bind: Maps positional and keyword arguments to arguments by name.
        data: The argument that holds the samples; None if the rule needs only δ.
        parameters: Arguments whose gradients the rule gives.
        gradients: The rule itself.
        applies: Returns True if the rule covers a call with these arguments.
        broadcasts: True if the data must first be expanded to the shape of the output.
        rows: (arguments, shape of the output) -> number of leading dimensions that are rows:
            entries that the operation treats one by one.
        positions: True if `gradients` sums over further dimensions between samples and features,
            so that the rows of a sample can be given together, [N, k, ...].
        direct: Adds the sums over samples at once, where every sample has one row and one use.
    """

    bind: Callable[[tuple[Any, ...], Mapping[str, Any]], dict[str, Any]]
    data: str | None
    parameters: tuple[str, ...]
    gradients: Gradients
    applies: Callable[[Bound], bool] = lambda bound: True
    broadcasts: bool = False
    rows: RowDims = lambda bound, shape: 1
    positions: bool = False
    direct: Direct | None = None

    def read(self, bound: Bound, wanted: Set[int]) -> dict[str, nn.Parameter]:
        """Return the parameters that a call reads, by argument; for a layer, by name.

        Args:
            bound: The call's arguments.
            wanted: Ids of the parameters that matter.
        """
        given = {name: bound[name] for name in self.parameters if name in bound}
        if not self.parameters and "layer" in bound:
            given = dict(bound["layer"].named_parameters(recurse=False))
        return {name: p for name, p in given.items() if id(p) in wanted}


RULES: dict[Any, Rule] = {}
"""Operation of torch, or layer type of a user's -> rule."""


def operation(
    function: Any,
    arguments: str,
    *,
    data: str = "input",
    parameters: str = "weight bias",
    applies: Callable[[Bound], bool] = lambda bound: True,
    rows: RowDims = lambda bound, shape: 1,
    positions: bool = False,
    direct: Direct | None = None,
) -> Callable[[Gradients], Gradients]:
    """Register a rule for calls of `function`, whose arguments have these names in order."""
    names = tuple(arguments.split())

    def bind(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def register(rule: Gradients) -> Gradients:
        RULES[function] = Rule(
            bind,
            data,
            tuple(parameters.split()),
            rule,
            applies,
            rows=rows,
            positions=positions,
            direct=direct,
        )
        return rule

    return register


LayerRule = Callable[[Any, Tensor, Tensor], dict[str, Gradient]]
"""(layer, input [N, ...], output gradient [N, ...]) -> gradient by parameter name in the layer."""


def register_rule(layer: type[nn.Module]) -> Callable[[LayerRule], LayerRule]:
    """Register a rule for layers of exactly this type; operations inside them are not recorded.

    The rule is compared with automatic differentiation on two samples before it is used, and
    ignored if it does not agree.

    Example:
        >>> import torch
        >>> from growmas import PerSample, register_rule
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self, width):
        ...         super().__init__()
        ...         self.gain = torch.nn.Parameter(torch.ones(width))
        ...     def forward(self, x):
        ...         return x * self.gain
        >>> @register_rule(Scale)
        ... def scale(layer, seen, delta):
        ...     return {"gain": PerSample(delta * seen)}
    """

    def register(rule: LayerRule) -> LayerRule:
        RULES[layer] = Rule(
            bind=lambda args, kwargs: {"input": args[0] if args else next(iter(kwargs.values()))},
            data="input",
            parameters=(),
            gradients=lambda bound, delta: rule(bound["layer"], bound["input"], delta),
        )
        return rule

    return register


def _summed(values: Tensor, kept: int) -> Tensor:
    """Sum [N, ..., C] (kept = -1) or [N, C, ...] (kept = 1) to [N, C]."""
    if kept == 1:
        return values.flatten(2).sum(2) if values.dim() > 2 else values
    return values.flatten(1, -2).sum(1) if values.dim() > 2 else values


def _all_but_last(bound: Bound, shape: torch.Size) -> int:
    return len(shape) - 1


def _all_but_normalised(bound: Bound, shape: torch.Size) -> int:
    return len(shape) - len(tuple(bound["normalized_shape"]))


def _linear_at_one_position(
    bound: Bound, delta: Tensor, sums: Mapping[str, Tensor], power: Power, positive: bool
) -> None:
    """Add |Δ|ᵀ|A| to the weight's sum and Σ_n |δ_n| to that of the bias."""
    size = magnitude(delta, power)
    if "weight" in sums:
        seen: Tensor = bound["input"]
        seen = seen if positive and power == 1 else factor(seen, power)
        sums["weight"].addmm_(size.mT, seen)
    if "bias" in sums:
        sums["bias"].add_(size.sum(0))


@operation(
    F.linear,
    "input weight bias",
    rows=_all_but_last,
    positions=True,
    direct=_linear_at_one_position,
)
def linear(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate y = W a + b at any number of leading positions."""
    left = delta.reshape(len(delta), 1, -1, delta.shape[-1])
    seen = bound["input"]
    right = seen.reshape(len(seen), 1, -1, seen.shape[-1])
    return {"weight": Products(left, right), "bias": PerSample(_summed(delta, -1))}


def _convolution(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate a convolution: a linear layer on one window for every output position."""
    return {"weight": convolution.plain(bound, delta), "bias": PerSample(_summed(delta, 1))}


def _transposed_convolution(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate a transposed convolution: every input position writes one window."""
    return {"weight": convolution.transposed(bound, delta), "bias": PerSample(_summed(delta, 1))}


for _dims, _plain, _transposed in (
    (1, torch.conv1d, torch.conv_transpose1d),
    (2, torch.conv2d, torch.conv_transpose2d),
    (3, torch.conv3d, torch.conv_transpose3d),
):

    def _batched(bound: Bound, dims: int = _dims) -> bool:
        return bool(bound["input"].dim() == dims + 2)

    operation(_plain, "input weight bias stride padding dilation groups", applies=_batched)(
        _convolution
    )
    operation(
        _transposed,
        "input weight bias stride padding output_padding groups dilation",
        applies=_batched,
    )(_transposed_convolution)


@operation(
    F.embedding,
    "input weight padding_idx max_norm norm_type scale_grad_by_freq sparse",
    parameters="weight",
    applies=lambda bound: not bound.get("scale_grad_by_freq"),
    rows=_all_but_last,
    positions=True,
)
def embedding(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate a table of which rows are read; the padding row gets no gradient."""
    indices = bound["input"].reshape(len(delta), -1)
    padding = bound.get("padding_idx")
    if padding is not None:
        indices = indices.masked_fill(indices == padding % len(bound["weight"]), -1)
    values = delta.reshape(len(delta), -1, delta.shape[-1])
    return {"weight": Rows(indices, values)}


def _affine(normalised: Tensor, delta: Tensor, kept: int) -> dict[str, Gradient]:
    """Differentiate gain and shift of a norm, given its output before they are applied."""
    return {
        "weight": PerSample(_summed(delta * normalised, kept)),
        "bias": PerSample(_summed(delta, kept)),
    }


@operation(
    F.layer_norm,
    "input normalized_shape weight bias eps",
    rows=_all_but_normalised,
    positions=True,
)
def layer_norm(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate LayerNorm over any number of trailing dimensions."""
    shape = tuple(bound["normalized_shape"])
    plain = F.layer_norm(bound["input"], shape, eps=bound.get("eps", 1e-5))
    start = delta.dim() - len(shape)
    flat = [t.flatten(start) for t in (plain, delta)]
    return _affine(flat[0], flat[1], -1)


@operation(
    F.rms_norm,
    "input normalized_shape weight eps",
    parameters="weight",
    rows=_all_but_normalised,
    positions=True,
)
def rms_norm(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate RMSNorm over any number of trailing dimensions."""
    shape = tuple(bound["normalized_shape"])
    plain = F.rms_norm(bound["input"], shape, eps=bound.get("eps"))
    start = delta.dim() - len(shape)
    flat = [t.flatten(start) for t in (plain, delta)]
    return {"weight": PerSample(_summed(flat[1] * flat[0], -1))}


@operation(F.group_norm, "input num_groups weight bias eps")
def group_norm(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate GroupNorm."""
    plain = F.group_norm(bound["input"], bound["num_groups"], eps=bound.get("eps", 1e-5))
    return _affine(plain, delta, 1)


@operation(
    F.batch_norm,
    "input running_mean running_var weight bias training momentum eps",
    applies=lambda bound: not bound.get("training"),
)
def batch_norm(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate BatchNorm with running statistics; batch statistics would mix samples."""
    seen, mean, var = bound["input"], bound["running_mean"], bound["running_var"]
    eps = bound.get("eps", 1e-5)
    sums = channel_sums(delta, seen, mean, var, eps)
    if sums is not None:
        return {"weight": PerSample(sums[0]), "bias": PerSample(sums[1])}
    plain = F.batch_norm(seen, mean, var, None, None, False, 0.0, eps)
    return _affine(plain, delta, 1)


@operation(
    F.instance_norm,
    "input running_mean running_var weight bias use_input_stats momentum eps",
)
def instance_norm(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate InstanceNorm with the statistics of each sample, or running statistics."""
    own = bound.get("use_input_stats", True)
    mean, var = (None, None) if own else (bound["running_mean"], bound["running_var"])
    plain = F.instance_norm(bound["input"], mean, var, None, None, own, 0.0, bound.get("eps", 1e-5))
    return _affine(plain, delta, 1)


@operation(F.prelu, "input weight", parameters="weight")
def prelu(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate PReLU with one slope, or one per channel."""
    negative = delta * bound["input"].clamp(max=0)
    if bound["weight"].numel() == 1:
        return {"weight": PerSample(negative.flatten(1).sum(1, keepdim=True))}
    return {"weight": PerSample(_summed(negative, 1))}


@operation(
    torch.addmm,
    "input mat1 mat2",
    data="mat1",
    parameters="mat2 input",
    rows=_all_but_last,
    positions=True,
)
def addmm(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate b + a W, the linear layer of GPT-2."""
    seen = bound["mat1"]
    left = delta.reshape(len(delta), 1, -1, delta.shape[-1])
    right = seen.reshape(len(seen), 1, -1, seen.shape[-1])
    bias = PerSample(_summed(delta, -1))
    return {"mat2": Products(left, right, transposed=True), "input": bias}


def _fitted(values: Tensor, parameter: Tensor) -> Gradient:
    """Sum [N, ...] over the dimensions along which the parameter was broadcast."""
    shape = ((1,) * values.dim() + tuple(parameter.shape))[-values.dim() :]
    repeated = [d for d in range(1, values.dim()) if shape[d] == 1 and values.shape[d] != 1]
    return PerSample(values.sum(repeated) if repeated else values)


def _broadcast_dims(bound: Bound, shape: torch.Size) -> int:
    """Return the number of leading dimensions along which the parameter is broadcast."""
    weight = bound["weight"].shape
    own = next((d for d, size in enumerate(weight) if size != 1), len(weight))
    return len(shape) - len(weight) + own


def _same_for_all(bound: Bound) -> bool:
    """Return True if the parameter is broadcast over samples."""
    weight, other = bound["weight"], bound["input"]
    known = isinstance(other, Tensor) and bound.get("alpha", 1) == 1 and other.dim() > 0
    return known and (weight.dim() < other.dim() or weight.shape[0] == 1)


def _bind_either(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    first, second = args if len(args) == 2 else (*args, None, None)[:2]
    if isinstance(first, nn.Parameter):
        first, second = second, first
    return {"input": first, "weight": second, **kwargs}


def _added(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate x + p, such as a position embedding."""
    return {"weight": _fitted(delta, bound["weight"])}


def _multiplied(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate x · p, such as a gain."""
    return {"weight": _fitted(delta * bound["input"], bound["weight"])}


for _add, _multiply in ((torch.add, torch.mul), (Tensor.add, Tensor.mul)):
    RULES[_add] = Rule(_bind_either, None, ("weight",), _added, _same_for_all, rows=_broadcast_dims)
    RULES[_multiply] = Rule(
        _bind_either, "input", ("weight",), _multiplied, _same_for_all, True, _broadcast_dims
    )

RULES[Tensor.expand] = Rule(  # such as a class token
    lambda args, kwargs: {"weight": args[0]},
    None,
    ("weight",),
    lambda bound, delta: {"weight": _fitted(delta, bound["weight"])},
    rows=_broadcast_dims,
)
