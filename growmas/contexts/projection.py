"""The random projection of features to rows of a few float64 numbers."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from growmas.errors import ContextError, DataError

Extract = Callable[[Any], Tensor]
"""Inputs of N samples -> their features [N, F]."""


class Projection:
    """Project features [N, F] by a Gaussian matrix [F, D]; leave them as they are where F ≤ D.

    Random projections nearly preserve distances (Johnson and Lindenstrauss 1984), and sums of
    many features are closer to Gaussian than the features themselves.

    Attributes:
        width: Largest number of dimensions D.
        seed: Seed of the matrix.
        extract: Inputs -> features [N, F]; None flattens the inputs.
        size: Number of features F; 0 until it is known.
        matrix: [F, D] float64 with entries of variance 1/D; None where F ≤ D.
    """

    def __init__(self, width: int, seed: int, extract: Extract | None) -> None:
        self.width = width
        self.seed = seed
        self.extract = extract
        self.size = 0
        self.matrix: Tensor | None = None

    def features(self, inputs: Any) -> Tensor:
        """Return the features of the inputs before projection, [N, F].

        Raises:
            DataError: The features are not finite floating-point numbers, or have another size
                than before.
            ContextError: `extract` does not return features [N, F].
        """
        found = self._extracted(inputs)
        size = found.shape[1]
        if self.size and size != self.size:
            raise DataError(
                f"a sample has {size} features ({_shape(found)}), but earlier samples had "
                f"{self.size}: give all tasks inputs of one size, or features with extract="
            )
        if not size or not found.isfinite().all():
            what = "NaN or infinite" if size else "empty"
            raise DataError(f"features of the inputs are {what}: correct or drop these samples")
        return found

    def fix(self, size: int) -> None:
        """Fix the number of features F and draw the matrix, unless that was done before."""
        if self.size:
            return
        self.size = size
        if size > self.width:
            generator = torch.Generator().manual_seed(self.seed)
            matrix = torch.randn(size, self.width, generator=generator)
            self.matrix = matrix.double() / math.sqrt(self.width)

    def adopt(self, other: "Projection") -> None:
        """Take over size and matrix of another projection with the same settings.

        Raises:
            ContextError: Both have a matrix, and the two differ.
        """
        if self.size and other.size:
            ours, theirs = self.matrix, other.matrix
            if ours is not None and theirs is not None and not torch.equal(ours, theirs):
                raise ContextError(
                    "the other context has another projection from the same seed (another version "
                    "of torch): load the state of one into the other before they are updated"
                )
        elif other.size:
            self.size, self.matrix = other.size, other.matrix

    def rows(self, features: Tensor) -> Tensor:
        """Project features [N, F] to [N, D] float64, on their device; on the CPU for MPS."""
        place = torch.device("cpu") if features.device.type == "mps" else features.device
        rows = features.to(place).double()
        return rows if self.matrix is None else rows @ self.matrix.to(place)

    def _extracted(self, inputs: Any) -> Tensor:
        """Return floating-point features [N, F], extracted or flattened."""
        if self.extract is not None:
            with torch.no_grad():
                found = self.extract(inputs)
            if not isinstance(found, Tensor) or found.dim() != 2:
                what = _shape(found) if isinstance(found, Tensor) else type(found).__name__
                raise ContextError(f"extract= must return features [N, F], got {what}")
        elif isinstance(inputs, Tensor) and inputs.dim() > 0:
            found = inputs.reshape(len(inputs), math.prod(inputs.shape[1:]))
        else:
            raise DataError(
                f"inputs of type {type(inputs).__name__} are not a tensor [N, ...]: give "
                "extract=, a function inputs -> features [N, F]"
            )
        if not found.is_floating_point():
            raise DataError(
                f"inputs must be floating-point numbers, got {found.dtype}: convert images with "
                ".float(); for token ids give extract=, a function inputs -> features [N, F], "
                "such as mean embeddings"
            )
        return found.detach()


def _shape(found: Tensor) -> str:
    return f"a tensor of shape {list(found.shape)}"
