"""Preparation of inputs: normalisation, number of channels, and size of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.data.splits import as_numbers
from growmas.errors import DataError

_PART = 1024
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as image libraries convert colours


@dataclass(frozen=True, eq=False)
class Scaling:
    """Normalisation x → (x − mean) / std.

    Attributes:
        mean: [channels, 1, 1] of images, [D] or a scalar of others.
        std: As `mean`, above 0.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the normalised inputs."""
        return (inputs - self.mean) / self.std

    def identity(self) -> bytes:
        """Return bytes that tell this normalisation from every other."""
        return repr((self.mean.tolist(), self.std.tolist())).encode()


def scaling_by_numbers(mean: list[float], std: list[float], shape: tuple[int, ...]) -> Scaling:
    """Make the normalisation by given numbers.

    Args:
        mean: One number for each channel of images, or each feature; or one for all.
        std: As `mean`.
        shape: Of one sample.

    Raises:
        DataError: There are too few or too many numbers.
    """
    for key, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (1, shape[0]):
            wanted = f"{shape[0]} numbers, or one for all," if shape[0] > 1 else "1 number"
            raise DataError(
                f"expected {wanted} for inputs of shape {shape}, got {len(numbers)}",
                key=("normalise", key),
            )
    return Scaling(*(_broadcast(torch.tensor(numbers), shape) for numbers in (mean, std)))


def scaling_to_unit(inputs: Tensor) -> Scaling:
    """Make the normalisation that maps the smallest input to 0 and the largest to 1."""
    parts = [as_numbers(part) for part in torch.split(inputs, _PART)]
    low = min(float(part.min()) for part in parts)
    high = max(float(part.max()) for part in parts)
    return Scaling(torch.tensor(low), torch.tensor(high - low if high > low else 1.0))


def scaling_to_standard(inputs: Tensor) -> Scaling:
    """Make the normalisation to mean 0 and standard deviation 1, of each channel or feature."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for part in torch.split(inputs, _PART):
        values = as_numbers(part).double().transpose(0, 1).flatten(1)
        count += values.shape[1]
        total, squares = total + values.sum(1), squares + values.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    std[std < 1e-12] = 1.0  # constant inputs stay constant
    shape = tuple(inputs.shape[1:])
    return Scaling(_broadcast(mean.float(), shape), _broadcast(std.float(), shape))


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return images [N, C, height, width] with another number of channels, as they are stored.

    Raises:
        DataError: It is not a change between grey and colour.
    """
    given = images.shape[1]
    if given == channels:
        return images
    if given == 1:
        return images.repeat(1, channels, 1, 1)
    if channels == 3 and given == 4:
        return images[:, :3]
    if channels != 1 or given not in (3, 4):
        raise DataError(
            f"images with {given} channels cannot be given {channels}: expected 1 or 3, from "
            "1, 3 or 4",
            key=("channels",),
        )
    weights = torch.tensor(_GREY)[:, None, None]
    return _stored_like(images, lambda part: (part[:, :3].float() * weights).sum(1, keepdim=True))


def with_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images [N, C, height, width] of another size, bilinearly, as they are stored."""
    if images.shape[2:] == size:
        return images
    return _stored_like(
        images,
        lambda part: F.interpolate(part.float(), size, mode="bilinear", antialias=True),
    )


def _stored_like(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    parts = []
    for part in torch.split(images, _PART):
        changed = change(part)
        if images.dtype == torch.uint8:
            changed = changed.round().clamp(0, 255)
        parts.append(changed.to(images.dtype))
    return torch.cat(parts)


def _broadcast(numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
    return numbers.reshape(-1, *[1] * (len(shape) - 1)) if len(numbers) > 1 else numbers.reshape(())
