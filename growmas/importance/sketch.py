"""Sketches: a few numbers that stand for the gradient of one sample, to compare two of them.

Automatic differentiation and the rules both give the gradients of a sample, for every parameter.
Keeping them until the others arrive would take as much memory as the parameters. So every 64
neighbouring entries are replaced by four weighted sums. The sums of two gradients differ by the
weighted sums of their difference. No weight is nearer to 0 than 1/2, and no two entries of a block
have nearly the same weights in all four sums. So a single entry that is off by e makes its sums
differ by e/2 or more. Two entries of a block that are swapped, one e larger than the other, make a
sum differ by e/4 or more. More entries that are off cancel only if they fit all the weights.
Parameters of fewer than 4096 entries, and those in half precision, are kept whole.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from growmas.importance.gradients import Power, magnitude, piece
from growmas.importance.measurement import check_finite
from growmas.importance.sums import running_dtype

BLOCK = 64
"""Neighbouring entries that are summed."""

WHOLE_BELOW = 4096
"""Entries of a parameter that is kept whole."""

SUMS = 4
"""Sums of each block. With two, some pairs of entries have weights that differ by 1/60 only."""

SEED = 2575
"""Seed of the weights: of 3000, the one for which they differ most. Global generators stay."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """A sketch of |gradient|^power of one sample for one parameter.

    Attributes:
        size: The largest entry.
        sums: [blocks, 4], weighted sums of blocks; None if all entries are 0.
        rest: Entries that do not fill a block, or all of a parameter that is kept whole.
    """

    size: float
    sums: Tensor | None
    rest: Tensor | None

    def difference(self, other: "Sketch") -> float:
        """Return the largest difference between the numbers of two sketches; NaN if one has it."""
        off = 0.0
        for one, two in ((self.sums, other.sums), (self.rest, other.rest)):
            both = one if two is None else two if one is None else one - two
            if both is not None and both.numel():
                off = _worse(off, largest(both))
        return off


ZERO = Sketch(0.0, None, None)
"""The sketch of a gradient that is 0."""


def sketch(values: Tensor, power: Power, *, whole: bool = False) -> Sketch:
    """Return the sketch of |values|^power.

    Args:
        values: Gradients of one sample, or their sizes with a power of 1; of any shape.
        power: 1 or 2.
        whole: True to keep all entries.
    """
    flat = values.reshape(-1)
    size = largest(flat) ** power
    if whole or flat.numel() < WHOLE_BELOW:
        return Sketch(size, None, magnitude(flat, power))
    end = flat.numel() // BLOCK * BLOCK
    weights = _weights(flat.dtype, flat.device)
    rows = piece(flat.device) // (4 * BLOCK)  # the sizes of a piece are held as well
    pieces = torch.split(flat[:end].view(-1, BLOCK), rows)
    with torch.autocast(flat.device.type, enabled=False):  # sums in bfloat16 compare nothing
        sums = torch.cat([magnitude(some, power) @ weights for some in pieces])
    return Sketch(size, sums, magnitude(flat[end:], power))


@cache
def _weights(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return [64, 4] random weights of either sign, none of them smaller than 1/2."""
    generator = torch.Generator().manual_seed(SEED)
    size = torch.rand(BLOCK, SUMS, generator=generator, dtype=torch.float64) + 0.5
    sign = torch.randint(2, (BLOCK, SUMS), generator=generator) * 2 - 1
    return (size * sign).to(device, dtype)


def sketched_gradients(
    row: Tensor, parameters: Mapping[str, nn.Parameter], power: Power, coarse: frozenset[str]
) -> dict[str, list[Sketch]]:
    """Return the sketches of |∂ row[k] / ∂θ|^power of all parameters, by name, for every k.

    A gradient is sketched as soon as it is there, and a single number takes its place, so that no
    two of them are in memory at once. The graph of `row` is released.

    Args:
        row: K scalars.
        parameters: Qualified name -> parameter, without hooks of the user's.
        power: 1 or 2.
        coarse: Names of the parameters to keep whole.

    Raises:
        DataError: A gradient is NaN or infinite.
    """
    sketches: dict[str, list[Sketch]] = {name: [] for name in parameters}
    for k, scalar in enumerate(row if parameters else ()):
        found: dict[str, Sketch] = {}
        if scalar.requires_grad:
            _differentiate(scalar, parameters, power, coarse, found, keep=k < len(row) - 1)
        for name, kept in sketches.items():
            own = found.get(name, ZERO)
            if not math.isfinite(own.size):
                check_finite({name: torch.tensor(own.size)})
            kept.append(own)
    return sketches


def _differentiate(
    scalar: Tensor,
    parameters: Mapping[str, nn.Parameter],
    power: Power,
    coarse: frozenset[str],
    found: dict[str, Sketch],
    *,
    keep: bool,
) -> None:
    """Take the gradients of one scalar, and put their sketches into `found`."""

    def note(name: str, gradient: Tensor) -> Tensor | None:
        plain = gradient.layout == torch.strided
        dense = gradient if plain else gradient.to_dense()
        precise = dense.to(running_dtype(dense.dtype))
        found[name] = sketch(precise, power, whole=name in coarse)
        return gradient.new_zeros(()).expand_as(gradient) if plain else None

    held = [(parameter, parameter._backward_hooks) for parameter in parameters.values()]
    hooks = [
        parameter.register_hook(lambda gradient, name=name: note(name, gradient))  # type: ignore[no-untyped-call]
        for name, parameter in parameters.items()
    ]
    try:
        torch.autograd.grad(scalar, list(parameters.values()), retain_graph=keep, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, before in held:
            parameter._backward_hooks = before  # removing the last hook leaves an empty dict


def largest(values: Tensor) -> float:
    """Return the largest absolute value, in one pass; NaN if there is one."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values)
    return float(torch.maximum(-low, high))


def _worse(one: float, other: float) -> float:
    """Return the larger of two numbers, or NaN."""
    return other if math.isnan(other) or other > one else one
