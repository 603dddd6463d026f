"""Generalised cross-validation: the strength of a ridge, from the statistics of its rows alone."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from growmas.contexts.statistics import Statistics
from growmas.errors import ContextError, GrowmasWarning

GRID = tuple(10 ** (exponent / 4) for exponent in range(-20, 1))
"""Strengths that are compared unless others are given: 1e-5 to 1, four for each factor of ten."""

FLAT = 1e-3
"""At an edge of `GRID`, λ makes no difference where the error changes by less than this share."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The problem in the basis of the eigenvectors of A, in which every strength is cheap.

    With s = tr A / D and eigenvalues e_i, a ridge of strength λ shrinks direction i by
    e_i / (e_i + λs). See `Statistics` for A and B.

    Attributes:
        values: [D], eigenvalues e of A, none below 0.
        vectors: [D, D], eigenvectors of A as columns.
        targets: [D, M], B of each component in this basis.
        total: Σ_c n_c (1 − n_c/N), the sum of squares of the centred targets.
        rows: N.
    """

    values: Tensor
    vectors: Tensor
    targets: Tensor
    total: float
    rows: int

    @staticmethod
    def of(statistics: Statistics) -> "Spectrum":
        """Return that of A, for O(D³)."""
        values, vectors = torch.linalg.eigh(statistics.scatter)
        counts = statistics.counts
        total = counts @ (1 - counts / counts.sum())
        targets = vectors.mT @ statistics.between.mT
        return Spectrum(values.clamp(min=0), vectors, targets, float(total), statistics.rows)

    def weights(self, strength: float) -> Tensor:
        """Return W = (A + λsI)⁻¹ Bᵀ, [D, M]."""
        return self.vectors @ (self._inverse(strength)[:, None] * self.targets)

    def error(self, strength: float) -> float:
        """Return GCV(λ) = (RSS/N) / (1 − df/N)² (Golub, Heath and Wahba 1979, eq. 1.4).

        RSS = Σ_c n_c (1 − n_c/N) − 2 tr(WᵀBᵀ) + tr(WᵀAW) is the sum of squared residuals of all
        components' indicators, df = 1 + Σ_i e_i / (e_i + λs) the degrees of freedom of a fit
        with an intercept. It estimates the mean squared error, summed over components, of
        samples that are left out.
        """
        inverse = self._inverse(strength)
        shrunk = self.values * inverse
        explained = self.targets.square().sum(1) * inverse * (2 - shrunk)
        residual = max(self.total - float(explained.sum()), 0.0)
        left = 1 - (1 + float(shrunk.sum())) / self.rows
        return math.inf if left <= 0 else residual / self.rows / left**2

    def _inverse(self, strength: float) -> Tensor:
        return 1 / (self.values + strength * self.values.mean())


@dataclass(frozen=True)
class Choice:
    """Result of generalised cross-validation.

    Attributes:
        strength: The strength of the least error.
        errors: Estimated error of every strength that was compared, in order.
    """

    strength: float
    errors: dict[float, float]


def choose_strength(spectrum: Spectrum, grid: Sequence[float]) -> Choice:
    """Choose the strength of the least `Spectrum.error` on a grid.

    Warns:
        GrowmasWarning: The minimum lies at an edge of the grid, so that a better strength may lie
            beyond it; for `GRID`, which is wide, only if the error still falls there.

    Raises:
        ContextError: There are too few rows for any strength of the grid.
    """
    errors = {strength: spectrum.error(strength) for strength in sorted(grid)}
    strengths = list(errors)
    best = min(strengths, key=errors.__getitem__)
    if not math.isfinite(errors[best]):
        raise ContextError(
            f"{spectrum.rows} samples are too few to choose a strength by cross-validation: give "
            "more, or set strength="
        )
    edges = {strengths[0]: "lower", strengths[-1]: "upper"}
    if best in edges and len(strengths) > 1 and not (grid is GRID and _flat_at(best, errors)):
        warnings.warn(
            f"the least cross-validation error lies at the {edges[best]} edge of the grid, at "
            f"strength {best:g}, so that a better one may lie beyond: give a grid= that reaches "
            f"further than {strengths[0]:g} to {strengths[-1]:g}, or set strength=",
            GrowmasWarning,
            stacklevel=3,
        )
    return Choice(best, errors)


def _flat_at(edge: float, errors: dict[float, float]) -> bool:
    """Return True if the error hardly changes from the strength at an edge to the next one."""
    strengths = list(errors)
    beside = strengths[1] if edge == strengths[0] else strengths[-2]
    return errors[beside] - errors[edge] <= FLAT * errors[beside]
