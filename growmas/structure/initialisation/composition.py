"""Compositions of a producer and its consumers, and the gradient of a loss at them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.nn.modules.batchnorm import _BatchNorm

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import Placement, placements


@dataclass(frozen=True, eq=False)
class Composition:
    """The producer of a group's units and their consumers, Linear or Conv2d.

    A Linear may read the feature maps of a Conv2d that were flattened, with pooling before.
    """

    producer: Any
    consumers: tuple[Any, ...]


def obstacle(model: nn.Module, group: UnitGroup, zero: str) -> str:
    """Return the reason why GradMax is not defined for a group; empty if it is.

    Args:
        model: The network.
        group: The group.
        zero: The side of fresh units that starts at zero, "columns" or "rows".
    """
    if group.residual:
        return "its units pass norms over all channels"
    producers = _layers(placements(model, group, ["out"]))
    consumers = _layers(placements(model, group, ["in"]))
    if len(producers) != 1:
        return f"{len(producers)} layers give its units"
    kind = type(next(iter(producers.values())))
    for layer, module in {**producers, **consumers}.items():
        if kind not in (nn.Linear, nn.Conv2d) or getattr(module, "groups", 1) != 1:
            return f"it changes {layer!r}, a {type(module).__name__}"
        if type(module) is not kind and not (kind is nn.Conv2d and type(module) is nn.Linear):
            return f"{layer!r}, a {type(module).__name__}, reads a {kind.__name__}"
        if getattr(module, "padding_mode", "zeros") != "zeros":
            return f"{layer!r} pads with {module.padding_mode!r}"
    for member in group.members:
        flattened = kind is nn.Conv2d and type(consumers.get(member.layer)) is nn.Linear
        if len(member.runs) != 1 if flattened else member.positions.shape[1] != 1:
            return f"a unit holds several positions of {member.layer!r}"
    norms = _layers(placements(model, group, ["norm"]))
    if zero == "rows" and any(isinstance(module, _BatchNorm) for module in norms.values()):
        return "BatchNorm would divide rows of zero by their deviation (use zero='columns')"
    return ""


def composition_of(model: nn.Module, group: UnitGroup) -> Composition:
    """Return the layers of a group for which GradMax is defined."""
    producer = next(iter(_layers(placements(model, group, ["out"])).values()))
    return Composition(producer, tuple(_layers(placements(model, group, ["in"])).values()))


def _layers(places: Iterable[Placement]) -> dict[str, Any]:
    return {place.layer: place.module for place in places}


Calls = dict[nn.Module, list[Tensor]]
"""Layer -> one tensor for each call."""


@contextmanager
def recorded(compositions: Iterable[Composition]) -> Iterator[tuple[Calls, Calls]]:
    """Record the inputs of producers and the outputs of consumers in every call."""
    seen: Calls = {}
    given: Calls = {}

    def reading(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.setdefault(module, []).append(inputs[0].detach().clone())

    def giving(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        given.setdefault(module, []).append(output)
        return output.clone()  # the next layer may write to its input

    compositions = list(compositions)
    producers = {composition.producer for composition in compositions}
    consumers = {consumer for composition in compositions for consumer in composition.consumers}
    handles = [producer.register_forward_pre_hook(reading) for producer in producers]
    handles += [consumer.register_forward_hook(giving) for consumer in consumers]
    try:
        yield seen, given
    finally:
        for handle in handles:
            handle.remove()


def check_calls(compositions: Mapping[str, Composition], seen: Calls, given: Calls) -> None:
    """Refuse layers that run more than once for a batch.

    Raises:
        PlanError: Names the group.
    """
    for name, composition in compositions.items():
        if len(seen.get(composition.producer, ())) != 1 or any(
            len(given.get(consumer, ())) > 1 for consumer in composition.consumers
        ):
            raise PlanError(
                f"GradMax: for a batch, the loss must run the layer of {name!r} once and each of "
                "its consumers at most once; use init='zero_out' there"
            )


def gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of the loss; zero for tensors that it does not use (other heads)."""
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def pair_gradient(
    producer: Any, x: Tensor, consumer: Any, delta: Tensor | None, *, positions: int = 1
) -> Tensor:
    """Return M of one producer and one consumer, [entries of a column, entries of a row], float64.

    Entry (c, r) is the gradient that weight c of a fresh column would get from a fresh unit whose
    row is one at r and zero elsewhere, without an activation in between. For a Linear behind a
    flattened feature map, a column has an entry for each output and position; pooling before the
    flatten is taken for average pooling.

    Args:
        producer: Linear or Conv2d.
        x: Its input, [N, ...].
        consumer: A layer that reads its output.
        delta: The gradient at the output of the consumer; None if the loss does not use it.
        positions: Number of columns that read a unit.

    Raises:
        PlanError: Feature maps are resized between the two layers.
    """
    column, row = consumer.weight[:, 0].numel() * positions, producer.weight[0].numel()
    if delta is None:
        return x.new_zeros(column, row, dtype=torch.float64)
    if isinstance(producer, nn.Linear):
        product: Tensor = delta.flatten(0, -2).double().T @ x.flatten(0, -2).double()
        return product
    patches = F.unfold(
        _padded(producer, x).double(),
        producer.kernel_size,
        dilation=producer.dilation,
        stride=producer.stride,
    ).view(len(x), row, *_output_size(producer, x))
    if isinstance(consumer, nn.Linear):
        pooled = _pooled(patches, positions).flatten(2)
        flattened: Tensor = torch.einsum("no,nrp->opr", delta.double(), pooled)
        return flattened.reshape(column, row)
    images = _padded(consumer, patches)
    if _output_size(consumer, images, padded=True) != tuple(delta.shape[2:]):
        raise PlanError(
            "GradMax: the feature maps are resized between two convolutions; "
            "use init='zero_out' there"
        )
    weight = (len(consumer.weight), row, *consumer.kernel_size)
    gradient: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
        images, weight, delta.double(), stride=consumer.stride, dilation=consumer.dilation
    )
    return gradient.movedim(1, -1).reshape(column, row)


def _pooled(patches: Tensor, positions: int) -> Tensor:
    """Return feature maps averaged over equal squares, so that `positions` pixels are left."""
    height, width = patches.shape[2:]
    if positions == 1:
        return patches.mean((2, 3), keepdim=True)
    for side in range(1, min(height, width) + 1):
        if (height // side) * (width // side) == positions:
            return F.avg_pool2d(patches, side)
    raise PlanError(
        f"GradMax: feature maps of {height} × {width} pixels become {positions} before a Linear, "
        "which is not pooling by equal squares; use init='zero_out' there"
    )


def _padded(conv: Any, x: Tensor) -> Tensor:
    return F.pad(x, conv._reversed_padding_repeated_twice)


def _output_size(conv: Any, x: Tensor, *, padded: bool = False) -> tuple[int, ...]:
    lengths = (x if padded else _padded(conv, x)).shape[2:]
    spans = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    return tuple(
        (length - span) // stride + 1
        for length, span, stride in zip(lengths, spans, conv.stride, strict=True)
    )
