"""Moments of rows: count, mean and scatter, which add up and suffice for least squares."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of rows (x, r) of F features and, for a regression, O targets; in G blocks.

    Attributes:
        count: Rows seen, R.
        mean: [G, F + O] float64.
        scatter: [G, F, F + O] float64, Σ_rows (x − x̄)(x − x̄, r − r̄)ᵀ.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @property
    def features(self) -> int:
        """Number of features, F."""
        return self.scatter.shape[1]

    @staticmethod
    def none(blocks: int, features: int, targets: int = 0) -> "Moments":
        """Return the moments of zero rows."""
        both = features + targets
        mean = torch.zeros(blocks, both, dtype=torch.float64)
        return Moments(0, mean, mean.new_zeros(blocks, features, both))

    @staticmethod
    def of(rows: Tensor, features: int) -> "Moments":
        """Return the moments of rows [G, R, F + O].

        Products of centred rows are computed in the precision of the rows, at least float32.
        """
        rows = rows.cpu() if rows.device.type == "mps" else rows  # MPS has no float64
        rows = rows if rows.dtype == torch.float64 else rows.float()
        mean = rows.mean(1, dtype=torch.float64)
        centred = rows - mean[:, None].to(rows.dtype)
        scatter = centred[..., :features].mT @ centred
        if features == rows.shape[-1]:  # exactly symmetric, so that half of it need be saved
            scatter = scatter.triu() + scatter.triu(1).mT
        return Moments(rows.shape[1], mean, scatter.double())

    def __add__(self, other: "Moments") -> "Moments":
        """Combine the moments of two sets of rows (Chan, Golub and LeVeque 1983)."""
        if not (self.count and other.count):
            return self if self.count else other
        here = self.to(other.mean.device)
        count = here.count + other.count
        shift, weight = other.mean - here.mean, here.count * other.count / count
        between = weight * shift[:, : self.features, None] * shift[:, None, :]
        return Moments(
            count,
            here.mean + shift * (other.count / count),
            here.scatter + other.scatter + between,
        )

    def to(self, device: torch.device) -> "Moments":
        """Return the moments on `device`."""
        return Moments(self.count, self.mean.to(device), self.scatter.to(device))

    def about_zero(self) -> "Moments":
        """Return uncentred products with means 0, for a regression without intercept."""
        mean = self.mean
        products = self.scatter + self.count * mean[:, : self.features, None] * mean[:, None, :]
        return Moments(self.count, torch.zeros_like(mean), products)

    def with_products(self, matrix: Tensor) -> "Moments":
        """Return the moments of (x, M x), from the moments of x and M [G, O, F] float64."""
        here = self.to(matrix.device)
        products = here.scatter @ matrix.mT
        targets = (matrix @ here.mean[..., None]).squeeze(-1)
        return Moments(
            self.count,
            torch.cat([here.mean, targets], dim=-1),
            torch.cat([here.scatter, products], dim=-1),
        )
