"""Changes of inputs, applied when a batch is read: permutations, rotations and new sizes."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.data.splits import hash_of


@dataclass(frozen=True, eq=False)
class Permutation:
    """The same order of pixels for every image and channel, or of features for every vector.

    Attributes:
        order: int64 [height × width], or [D].
    """

    order: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the permuted inputs."""
        if inputs.ndim == 2:
            return inputs[:, self.order]
        return inputs.flatten(2)[:, :, self.order].reshape(inputs.shape)

    def identity(self) -> bytes:
        """Return bytes that tell this permutation from every other."""
        return hash_of(self.order)


@dataclass(frozen=True)
class Rotation:
    """Rotation of images about their centre, bilinear; 0 outside.

    Attributes:
        degrees: Counter-clockwise.
    """

    degrees: float

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the rotated images [N, channels, height, width]."""
        return rotated(inputs, self.degrees)

    def identity(self) -> bytes:
        """Return bytes that tell this rotation from every other."""
        return f"rotated by {self.degrees!r}".encode()


@dataclass(frozen=True)
class Resizing:
    """Images brought to one size, bilinearly.

    Attributes:
        height: In pixels.
        width: In pixels.
    """

    height: int
    width: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return images [N, channels, height, width] of this size."""
        size = (self.height, self.width)
        return F.interpolate(inputs, size, mode="bilinear", align_corners=False)

    def identity(self) -> bytes:
        """Return bytes that tell this change from every other."""
        return f"resized to {self.height} {self.width}".encode()


def rotated(inputs: Tensor, degrees: float) -> Tensor:
    """Rotate images [N, channels, height, width] about their centre, bilinearly; 0 outside."""
    angle = math.radians(degrees)
    height, width = inputs.shape[2:]
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]])
    grid = F.affine_grid(matrix.expand(len(inputs), 2, 3), list(inputs.shape), align_corners=False)
    return F.grid_sample(inputs, grid.to(inputs.device), align_corners=False)
