"""Consumers: layers that read units, each seen as one matrix product per row, y = W x + b.

A row is one sample at one position. There are G blocks (the groups of a grouped convolution, else
1), R rows, F features per row and block, and O outputs per block. The features of a convolution are
its channels times the taps of its kernel, as a sliding window gives them, so that borders, strides
and padding count as in the layer itself. A transposed convolution is the convolution of its input
with zeros in between, by the kernel turned round.

    >>> conv = nn.Conv2d(3, 5, 2, bias=False)
    >>> consumer, images = Consumer("conv", conv, "conv.weight", 1), torch.rand(4, 3, 6, 6)
    >>> (rows,) = consumer.rows(images)
    >>> rows.shape, consumer.matrix(conv.weight).shape  # 4 · 5 · 5 positions, 3 · 2 · 2 features
    (torch.Size([1, 100, 12]), torch.Size([1, 5, 12]))
    >>> product = rows @ consumer.matrix(conv.weight).mT
    >>> torch.allclose(product, consumer.outputs(conv(images)), atol=1e-6)
    True
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from growmas.errors import DataError
from growmas.importance.attention import can_separate
from growmas.structure.layers.class_names import qualified_name
from growmas.structure.layers.gains import has_gains, plain_class
from growmas.structure.reconstruction.inner_operation import (
    convolved,
    is_convolution,
    is_linear,
)
from growmas.structure.reconstruction.recurrence import Gates, is_recurrent, read_by
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import Placement, placements

WIDE = 8192
"""Of more features than that, no covariance is formed (0.5 GB of float64)."""

Listener = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Tensor], None]

_LINEAR = (
    "torch.nn.modules.linear.Linear",
    "transformers.pytorch_utils.Conv1D",
)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PADDED = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # of which subclasses may pad by themselves
_CONVOLUTIONS = (*_PADDED, *_TRANSPOSED)


@dataclass(frozen=True, eq=False)
class Consumer:
    """A layer that reads units.

    Attributes:
        layer: Qualified name; of a recurrent layer, that of one of its weights.
        module: The layer; of a recurrent layer, `Gates`.
        weight: Qualified name of its weight, as `named_parameters` gives it.
        dim: Axis of the weight that carries the units.
        node: Qualified name of the layer in the data flow.
        problem: Reason why it cannot be refitted; empty if it can.
        padded: True if it pads its input by itself, so that what it reads is the padded one.
    """

    layer: str
    module: Any
    weight: str
    dim: int
    node: str = ""
    problem: str = ""
    padded: bool = False

    @property
    def inner(self) -> bool:
        """True if it reads hidden states of its own recurrent layer."""
        return isinstance(self.module, Gates) and self.module.inner

    def listen(self, model: nn.Module, listener: Listener) -> RemovableHandle:
        """Have a forward hook called with what the layer reads and gives in a network.

        Args:
            model: The network, or a copy of it.
            listener: (module, args, kwargs, output), as for `register_forward_hook`.
        """
        layer = model.get_submodule(self.node or self.layer)
        gates = self.module
        if not isinstance(gates, Gates) and not self.padded:
            return layer.register_forward_hook(listener, with_kwargs=True)

        def listen(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> None:
            if isinstance(gates, Gates):
                seen, given = read_by(module, gates.name, args, kwargs)
                listener(gates, (seen,), {}, given)
                return
            read = convolved(module, args, kwargs)
            if read is None:
                raise DataError(
                    f"on these batches {self.layer!r} is not one convolution by its weight, as it "
                    "is for random inputs: leave the groups that it reads out of the plan"
                )
            listener(module, (read,), {}, output)

        return layer.register_forward_hook(listen, with_kwargs=True)

    @property
    def blocks(self) -> int:
        """Number of blocks, G."""
        return int(getattr(self.module, "groups", 1))

    @property
    def wide(self) -> bool:
        """True if it is refitted, and has too many features for a covariance."""
        return not self.problem and self.features > WIDE

    @property
    def transposed(self) -> bool:
        """True for a transposed convolution."""
        return isinstance(self.module, _TRANSPOSED)

    @property
    def taps(self) -> int:
        """Number of features per channel: the taps of the kernel."""
        return prod(getattr(self.module, "kernel_size", ()))

    @property
    def features(self) -> int:
        """Number of features per row and block, F."""
        return int(self.module.weight.shape[self.dim]) * self.taps

    @property
    def channels(self) -> int:
        """Number of output channels, G · O."""
        return int(self.module.weight.numel()) // self.features

    def of_channels(self, channels: Tensor) -> Tensor:
        """Return the features [n · taps] of channels [n]; those of a fresh channel, −1, are −1."""
        taps = torch.arange(self.taps, device=channels.device)
        features = channels[:, None] * self.taps + taps
        return torch.where(channels[:, None] < 0, -1, features).flatten()

    def rows(self, seen: Tensor) -> Iterator[Tensor]:
        """Yield an input of the layer as [G, R, F], in chunks of bounded size."""
        if not isinstance(self.module, _CONVOLUTIONS):
            yield from torch.split(
                seen.reshape(1, -1, self.features), _rows_at_once(self.features), 1
            )
            return
        seen = seen if seen.dim() == self.module.weight.dim() else seen[None]
        for part in torch.split(seen, _rows_at_once(seen[0].numel() * self.taps)):
            yield self._patches(part)

    def positions(self, output: Tensor) -> int:
        """Return how many rows an output has: samples times positions; its width may be another."""
        spatial = self.module.weight.dim() - 2 if isinstance(self.module, _CONVOLUTIONS) else 0
        return output.numel() // max(1, output.shape[output.dim() - 1 - spatial])

    def sampled(self, seen: Tensor, output: Tensor, sites: Tensor | None) -> Tensor:
        """Return some rows of an input of the layer, [G, R, F], without forming the others.

        Args:
            seen: The input.
            output: What the layer gives for it.
            sites: [R], numbers of the rows, in the order of `rows`; None for all.
        """
        if not isinstance(self.module, _CONVOLUTIONS):
            rows = seen.reshape(-1, seen.shape[-1])
            return (rows.clone() if sites is None else rows[sites])[None]
        seen = seen if seen.dim() == self.module.weight.dim() else seen[None]
        spatial = seen.dim() - 2
        maps = self._windows(seen, output.shape[-spatial:])
        n, places = len(seen), maps.shape[2 : 2 + spatial]
        if sites is None:
            sites = torch.arange(n * prod(places), device=seen.device)
        sample, *at = torch.unravel_index(sites, (n, *places))
        # the axes of windows first, so that one index picks whole windows
        moved = maps.movedim(1, 1 + spatial)[(sample, *at)]
        g = self.blocks
        return moved.reshape(len(sites), g, -1).transpose(0, 1)

    def given(self, output: Tensor, sites: Tensor | None) -> Tensor:
        """Return the rows of an output of the layer, [R, C], or of a tensor of its shape.

        Gains of the layer are divided out: what is left is W x + b.
        """
        if isinstance(self.module, _CONVOLUTIONS):
            output = output if output.dim() == self.module.weight.dim() else output[None]
            output = output.movedim(1, -1)
        rows = output.reshape(-1, output.shape[-1])
        rows = rows.clone() if sites is None else rows[sites]
        if not has_gains(self.module):
            return rows
        gain = self.module.gain.detach()
        return rows / torch.where(gain == 0, 1, gain)

    def outputs(self, given: Tensor) -> Tensor:
        """Return an output of the layer as [G, R, O]."""
        if not isinstance(self.module, _CONVOLUTIONS):
            return given.reshape(1, -1, given.shape[-1])
        given = given if given.dim() == self.module.weight.dim() else given[None]
        maps = given.reshape(len(given), self.blocks, given.shape[1] // self.blocks, -1)
        return maps.permute(1, 0, 3, 2).flatten(1, 2)

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a weight of the layer as [G, O, F]."""
        if self.transposed:
            turned = weight.flip(*range(2, weight.dim())).transpose(0, 1)
            return turned.reshape(1, turned.shape[0], -1)
        if self.dim == 0:
            return weight.T[None]
        return weight.reshape(self.blocks, weight.shape[0] // self.blocks, -1)

    def weight_of(self, matrix: Tensor) -> Tensor:
        """Return [G, O, F] as a weight of the layer: the inverse of `matrix`."""
        weight: Tensor = self.module.weight
        if self.transposed:
            turned = matrix.reshape(weight.shape[1], weight.shape[0], *weight.shape[2:])
            return turned.transpose(0, 1).flip(*range(2, weight.dim()))
        return matrix[0].T if self.dim == 0 else matrix.reshape(weight.shape)

    def _patches(self, seen: Tensor) -> Tensor:
        """Return [G, R, F], what each window of a convolution sees; `F.unfold` is for 2d only."""
        maps = self._windows(seen)
        n, g = len(seen), self.blocks
        split = maps.reshape(n, g, maps.shape[1] // g, -1, self.taps)
        patches: Tensor = split.permute(1, 0, 3, 2, 4).reshape(g, n * split.shape[3], -1)
        return patches

    def _windows(self, seen: Tensor, places: Sequence[int] | None = None) -> Tensor:
        """Return [N, C, places ..., taps ...], a view of a padded input.

        Args:
            seen: The input.
            places: Positions along each axis of the output; None for those that the layer gives
                by default. Only a transposed convolution has a choice.
        """
        conv, spatial = self.module, seen.dim() - 2
        if self.transposed:
            maps, strides = _spaced(conv, seen, places), (1,) * spatial
        elif self.padded:
            maps, strides = seen, conv.stride
        else:
            mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
            maps = F.pad(seen, conv._reversed_padding_repeated_twice, mode=mode)
            strides = conv.stride
        for axis in range(spatial):
            reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
            windows = maps.unfold(axis + 2, reach, strides[axis])
            maps = windows[..., :: conv.dilation[axis]]
        return maps


def consumers_of(model: nn.Module, groups: Mapping[str, UnitGroup]) -> dict[str, list[Consumer]]:
    """Return the layers that read units of each group: group name -> its consumers."""
    if not groups:
        return {}
    slots = list(model.named_parameters(remove_duplicate=False))
    names = {id(parameter): name for name, parameter in reversed(slots)}
    places = Counter(id(parameter) for _, parameter in slots)
    tied = {name for name, parameter in slots if places[id(parameter)] > 1}
    hidden = _hidden_outputs(model)
    found: dict[str, list[Consumer]] = {}
    for group in groups.values():
        by_layer: dict[str, Consumer] = {}
        for place in placements(model, group, ["in"]):
            if place.rows:
                continue
            layer, weight = reader_name(place), names[id(place.tensor)]
            module = (
                Gates(place.module, place.axis.tensor) if layer != place.layer else place.module
            )
            consumer = Consumer(layer, module, weight, place.axis.dim, place.layer)
            problem = hidden.get(place.module) or _problem(consumer, tied)
            by_layer[layer] = replace(
                consumer, problem=problem, padded=not problem and _is_padded(module)
            )
        found[group.name] = list(by_layer.values())
    return found


def reader_name(place: Placement) -> str:
    """Return the name of the layer that reads, or of the weight of a recurrent layer."""
    return f"{place.layer}.{place.axis.tensor}" if is_recurrent(place.module) else place.layer


def _spaced(conv: Any, seen: Tensor, places: Sequence[int] | None) -> Tensor:
    """Return what a transposed convolution slides its turned kernel over, with stride 1."""
    padding: list[int] = []
    for axis, size in enumerate(seen.shape[2:]):
        stride, reach = conv.stride[axis], conv.dilation[axis] * (conv.kernel_size[axis] - 1)
        before = reach - conv.padding[axis]
        held = (size - 1) * stride + 1
        wanted = (
            held + 2 * before - reach + conv.output_padding[axis]
            if places is None
            else places[axis]
        )
        padding = [before, wanted + reach - held - before, *padding]
        if stride > 1:
            apart = seen.new_zeros(*seen.shape[: axis + 3], stride, *seen.shape[axis + 3 :])
            apart.select(axis + 3, 0).copy_(seen)
            seen = apart.flatten(axis + 2, axis + 3).narrow(axis + 2, 0, held)
    return F.pad(seen, padding)


def _hidden_outputs(model: nn.Module) -> dict[nn.Module, str]:
    """Return the output layers of attention that cannot be seen at work, with the reason."""
    return {
        module.out_proj: f"{type(module).__name__} {name!r} does not call it"
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention) and not can_separate(module)
    }


def _rows_at_once(size: int) -> int:
    """Return how many rows of `size` float32 numbers fit into 64 MiB, at least 1."""
    return max(1, 2**24 // max(1, size))


def _is_plain(kind: type[nn.Module], *bases: type[nn.Module]) -> bool:
    """Return True if a class computes as one of these, be it a subclass of it."""
    return any(
        issubclass(kind, base)
        and kind.forward is base.forward
        and getattr(kind, "_conv_forward", None) is getattr(base, "_conv_forward", None)
        for base in bases
    )


def _is_product(module: nn.Module) -> bool:
    """Return True if a layer is a matrix product at every position, by its own weight."""
    kind = plain_class(module)
    if _is_plain(kind, *_CONVOLUTIONS, nn.Linear) or qualified_name(kind) in _LINEAR:
        return True
    if isinstance(module, nn.Linear):
        return is_linear(module)
    return isinstance(module, _PADDED) and is_convolution(module)


def _is_padded(module: object) -> bool:
    """Return True if a product is a convolution with a forward pass of its own."""
    return isinstance(module, _PADDED) and not _is_plain(plain_class(module), *_PADDED)


def _problem(consumer: Consumer, tied: set[str]) -> str:
    """Return the reason why a consumer cannot be refitted; empty if it can."""
    if isinstance(consumer.module, Gates):
        names = {f"{consumer.node}.{n}" for n in (consumer.module.name, consumer.module.bias_name)}
        shared = sorted(names & tied)
        return consumer.module.problem or _tied(shared)
    matrices = (nn.Linear, *_CONVOLUTIONS)
    if isinstance(consumer.module, matrices) and "weight" not in consumer.module._parameters:
        return "its weights are computed from others"
    if not _is_product(consumer.module):
        kind = plain_class(consumer.module).__name__
        return f"a {kind} is not a matrix product per position"
    if consumer.transposed and consumer.blocks > 1:
        return "a transposed convolution in groups is not refitted"
    shared = sorted({f"{consumer.layer}.{name}" for name in ("weight", "bias")} & tied)
    return _tied(shared)


def _tied(shared: Sequence[str]) -> str:
    return f"{shared[0]!r} is tied to another layer" if shared else ""
