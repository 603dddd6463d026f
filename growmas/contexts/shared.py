"""Gaussians with one covariance: linear discriminant analysis in one pass."""

import torch
from torch import Tensor

from growmas.contexts.estimate import Estimate
from growmas.contexts.linear import LinearContext


class SharedGaussianEstimate(Estimate):
    """Weights of the linear discriminants."""

    def fit(self) -> tuple[Tensor, Tensor]:
        """Return Σ⁻¹(m_c − m) and log n_c/N − ½ (m_c − m)ᵀΣ⁻¹(m_c − m)."""
        weights: Tensor = torch.linalg.solve_triangular(self.factor.mT, self.centres.mT, upper=True)
        shares = (self.statistics.counts / self.statistics.rows).log()
        return weights, shares - self.centres.square().sum(1) / 2


class SharedGaussianContext(LinearContext):
    """Model every class, or every task, by a Gaussian, all with one covariance.

    Streaming linear discriminant analysis (Hayes and Kanan, CVPR Workshops 2020). With S the
    covariance within components, m_c their means and n_c of N samples in D dimensions:

        Σ = (1 − α) S + α tr(S)/D · I      logit_c = φᵀΣ⁻¹m_c − ½ m_cᵀΣ⁻¹m_c + log n_c/N

    and log p = log_softmax(logit / T), T 5 until `calibrate` sets it: Gaussians of many dimensions
    are surer than they are right. α is the strength λ that generalised cross-validation chooses
    for a ridge on the same statistics, see `choice`; estimates made for Gaussian data shrink far
    too little here. It keeps the same numbers as a `RidgeContext`, and merges as exactly.

    Example:
        >>> import torch, growmas
        >>> context = growmas.SharedGaussianContext("task", strength=0.1)
        >>> low, high = torch.rand(64, 8), torch.rand(64, 8) + 2
        >>> context.update("low", low)
        >>> context.update("high", high)
        >>> context.select(torch.cat([high[:2], low[:1]]))
        tensor([1, 1, 0])

    Attributes:
        threshold: Where inputs become unlike all, see the constructor; it may be changed.
        extract: What makes features of inputs.
    """

    _ESTIMATE = SharedGaussianEstimate
    _TEMPERATURE = 5.0
