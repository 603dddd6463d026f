"""Estimates from statistics: strength, spectrum and distances, each computed once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from growmas.contexts.cross_validation import Choice, Spectrum, choose_strength
from growmas.contexts.statistics import Statistics
from growmas.errors import ContextError


class Estimate(ABC):
    """Everything that is derived from the statistics; a context makes a new one when they change.

    Attributes:
        statistics: Of M components, in D dimensions.

    Raises:
        ContextError: All samples have the same features.
    """

    def __init__(
        self, statistics: Statistics, strength: float | None, grid: Sequence[float]
    ) -> None:
        level = statistics.rows * float(statistics.mean.square().sum())
        if not float(statistics.scatter.diagonal().sum()) > 1e-24 * level:
            raise ContextError("all samples have the same features: give features that differ")
        self.statistics = statistics
        self._strength = strength
        self._grid = grid

    @property
    def chosen(self) -> bool:
        """True if λ is chosen by cross-validation instead of set."""
        return self._strength is None

    @property
    def strength(self) -> float:
        """λ as set, or of the least error that is estimated from the statistics."""
        return self.choice.strength if self._strength is None else self._strength

    @cached_property
    def choice(self) -> Choice:
        """Estimated errors of the strengths of the grid, and the best of them."""
        return choose_strength(self.spectrum, self._grid)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigenvalues and eigenvectors of the scatter."""
        return Spectrum.of(self.statistics)

    @cached_property
    def factor(self) -> Tensor:
        """Cholesky factor [D, D] of Σ = (1 − α) S + α tr(S)/D · I, with α = λ, at most 1.

        S is the covariance within components.

        Raises:
            ContextError: Samples of one component are all alike, or Σ is singular.
        """
        within, shrinkage = self.statistics.within, min(self.strength, 1.0)
        variance = within.diagonal().mean()
        if not variance > 1e-14 * self.statistics.scatter.diagonal().sum():
            raise ContextError(
                "samples of each component are all alike, so their spread is not known: give more"
            )
        shrunk = (1 - shrinkage) * within
        shrunk.diagonal().add_(shrinkage * variance)
        factor: Tensor
        factor, fault = torch.linalg.cholesky_ex(shrunk)
        if int(fault):
            raise ContextError(
                f"the covariance within components is singular at strength {self.strength:g}: "
                "give a higher strength=, or more samples"
            )
        return factor

    @cached_property
    def centres(self) -> Tensor:
        """Mean of each component less the mean of all, whitened: L⁻¹(m_c − m), [M, D]."""
        return self._whitened(self.statistics.offsets)

    @abstractmethod
    def fit(self) -> tuple[Tensor, Tensor]:
        """Return weights [D, M] and biases [M] on features less the mean of all."""

    @cached_property
    def _fitted(self) -> tuple[Tensor, Tensor]:
        return self.fit()

    def logits(self, rows: Tensor) -> Tensor:
        """Return logits of rows [N, D] float64 for every component, [N, M], at temperature 1."""
        weights, bias = self._fitted
        here = rows.to(weights.device) - self.statistics.mean
        return (here @ weights + bias).to(rows.device)

    def squared(self, rows: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of rows [N, D] to every component, [N, M]."""
        here = self.statistics.mean.device
        whitened = self._whitened(rows.to(here) - self.statistics.mean)
        gaps = [(whitened - centre).square().sum(1) for centre in self.centres]
        return torch.stack(gaps, 1).to(rows.device)

    def _whitened(self, rows: Tensor) -> Tensor:
        whitened: Tensor = torch.linalg.solve_triangular(self.factor, rows.mT, upper=False).mT
        return whitened
