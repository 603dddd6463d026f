"""Inputs as rows of a few float64 numbers: any features, through a fixed random projection."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from growmas.errors import ContextError, DataError

Extract = Callable[[Any], Tensor]
"""Inputs -> features [N, F] of them."""


class Projection:
    """[N, F] times a Gaussian matrix [F, D], or as it is where F ≤ D.

    Random projections keep distances nearly (Johnson and Lindenstrauss 1984), and make sums of
    many features more nearly Gaussian than the features were.

    Attributes:
        width: D at most.
        seed: What the matrix is drawn from.
        extract: What makes features of inputs; None flattens them.
        size: F, 0 until it is known.
        matrix: [F, D] float64, its entries of variance 1/D; None where F ≤ D.
    """

    def __init__(self, width: int, seed: int, extract: Extract | None) -> None:
        self.width = width
        self.seed = seed
        self.extract = extract
        self.size = 0
        self.matrix: Tensor | None = None

    def features(self, inputs: Any) -> Tensor:
        """The features as they are, [N, F].

        Raises:
            DataError: They are not finite floating-point numbers, or not of the size seen before.
        """
        found = self._extracted(inputs)
        size = found.shape[1]
        if self.size and size != self.size:
            raise DataError(
                f"one sample has {size} features, {_shape(found)}, but those seen before had "
                f"{self.size}: give all tasks inputs of one size, or features with extract="
            )
        if not size or not found.isfinite().all():
            what = "NaN or infinite" if size else "empty"
            raise DataError(f"features of the inputs are {what}: mend or drop these samples")
        return found

    def fix(self, size: int) -> None:
        """Settle on F features, and draw the matrix, unless that was done before."""
        if self.size:
            return
        self.size = size
        if size > self.width:
            generator = torch.Generator().manual_seed(self.seed)
            matrix = torch.randn(size, self.width, generator=generator)
            self.matrix = matrix.double() / math.sqrt(self.width)

    def adopt(self, other: "Projection") -> None:
        """Settle on what another one with the same settings settled on.

        Raises:
            ContextError: Both have settled, on different matrices.
        """
        if self.size and other.size:
            ours, theirs = self.matrix, other.matrix
            if ours is not None and theirs is not None and not torch.equal(ours, theirs):
                raise ContextError(
                    "the other context projects differently, although from the same seed (another "
                    "version of torch): load one's state into the other before they are updated"
                )
        elif other.size:
            self.size, self.matrix = other.size, other.matrix

    def rows(self, features: Tensor) -> Tensor:
        """[N, F] -> [N, D] float64, where the features are; on the CPU for MPS."""
        place = torch.device("cpu") if features.device.type == "mps" else features.device
        rows = features.to(place).double()
        return rows if self.matrix is None else rows @ self.matrix.to(place)

    def _extracted(self, inputs: Any) -> Tensor:
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
