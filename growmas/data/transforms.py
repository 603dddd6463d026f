"""Transforms: random changes of training images, drawn anew for every sample of every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.errors import DataError


class Transform(Protocol):
    """Random change of a batch of inputs."""

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the changed inputs, of the same shape.

        Args:
            inputs: [N, ...], before their normalisation.
            generator: On the CPU; of all randomness.
        """


@dataclass(frozen=True)
class Flip:
    """Images mirrored left to right.

    Attributes:
        probability: Of each image.
    """

    probability: float = 0.5

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, some of them mirrored."""
        chosen = torch.rand(len(inputs), generator=generator) < self.probability
        return torch.where(chosen[:, None, None, None], inputs.flip(-1), inputs)


@dataclass(frozen=True)
class Crop:
    """Images padded with zeros, and cropped to their size.

    Attributes:
        padding: Pixels added on each side.
    """

    padding: int = 4

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each moved by up to `padding` pixels along both axes."""
        count, channels, height, width = inputs.shape
        padded = F.pad(inputs, [self.padding] * 4)
        starts = torch.randint(2 * self.padding + 1, (2, count), generator=generator)
        rows = starts[0][:, None] + torch.arange(height)
        columns = starts[1][:, None] + torch.arange(width)
        return padded[
            torch.arange(count)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]


@dataclass(frozen=True)
class Erase:
    """A square of each image set to zero (Cutout, DeVries and Taylor, arXiv 1708.04552).

    Attributes:
        size: Pixels of a side; the square may lie partly outside of the image.
    """

    size: int = 8

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each without a square about a random pixel."""
        count, _, height, width = inputs.shape
        hidden = []
        for length in (height, width):
            centre = torch.randint(length, (count, 1), generator=generator)
            first = centre - self.size // 2
            places = torch.arange(length)
            hidden.append((places >= first) & (places < first + self.size))
        square = hidden[0][:, :, None] & hidden[1][:, None, :]
        return inputs.masked_fill(square[:, None], 0.0)


@dataclass(frozen=True)
class PerSample:
    """A function of one sample that draws from torch's global random state.

    The global state is as before afterwards.

    Attributes:
        function: From one input to one of the same shape.
        name: For messages.
    """

    function: Callable[[Tensor], Tensor]
    name: str

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the inputs, each changed by itself.

        Raises:
            DataError: The function gives another shape, or something else.
        """
        seed = int(torch.randint(2**62, (1,), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            changed = [self.function(each) for each in inputs]
        for each in changed:
            if not isinstance(each, Tensor) or each.shape != inputs.shape[1:]:
                given = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
                raise DataError(
                    f"{self.name} returned {given} for an input of shape "
                    f"{tuple(inputs.shape[1:])}: expected a tensor of the same shape"
                )
        return torch.stack(changed).to(inputs.dtype)


def thinned(inputs: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set a share of the inputs to zero, as `F.dropout` does without taking a generator.

    Args:
        inputs: [N, ...], normalised.
        share: In expectation; what is left is divided by 1 − share.
        generator: On the CPU.
    """
    kept = torch.rand(inputs.shape, generator=generator) >= share
    return inputs * kept.to(inputs.device) / (1 - share)


@dataclass(frozen=True)
class SeededChain:
    """Transforms applied one after the other, with a seed.

    Attributes:
        transforms: In their order.
        seed: Of all randomness of one batch.
    """

    transforms: tuple[Transform, ...]
    seed: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the changed inputs."""
        generator = torch.Generator().manual_seed(self.seed)
        for transform in self.transforms:
            inputs = transform(inputs, generator)
        return inputs
