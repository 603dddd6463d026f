"""A ridge classifier that is exact after one pass."""

import torch
from torch import Tensor

from growmas.contexts.estimate import Estimate
from growmas.contexts.linear import LinearContext


class RidgeEstimate(Estimate):
    """Weights of the ridge."""

    def fit(self) -> tuple[Tensor, Tensor]:
        """Return W = (A + λsI)⁻¹ Bᵀ and n_c/N."""
        bias = self.statistics.counts / self.statistics.rows
        if self.chosen:
            return self.spectrum.weights(self.strength), bias
        matrix = self.statistics.scatter.clone()
        matrix.diagonal().add_(self.strength * matrix.diagonal().mean())
        weights: Tensor = torch.linalg.solve(matrix, self.statistics.between.mT)
        return weights, bias


class RidgeContext(LinearContext):
    """Classify by a ridge regression on features, exact after one pass and from sums alone.

    It regresses indicators of the components, the classes of each task or the tasks, on features.
    With N samples in D dimensions, n_c of them of component c, and S_c = Σφ over these, μ = ΣS/N,
    A = Σφφᵀ − Nμμᵀ, B_c = S_c − n_c μ and s = tr A / D:

        W = (A + λsI)⁻¹ Bᵀ      logit_c = (φ − μ)ᵀ W_c + n_c/N      log p = log_softmax(logit / T)

    T is 0.1 until `calibrate` sets it. λ is chosen by generalised cross-validation, which needs
    the sums alone, see `choice`. On fixed whitened filters this is what random-feature methods for
    class-incremental learning do (RanPAC: McDonnell et al., NeurIPS 2023), without a validation
    set. It keeps D(D + 1)/2 + (M + 1)(D + 1) numbers, no sample, and needs one pass; neither the
    order of samples or classes nor how they are cut into batches or shards matters, see `merge`.

    Example:
        >>> import torch, growmas
        >>> context = growmas.RidgeContext(strength=0.1)
        >>> low, high = torch.rand(64, 8), torch.rand(64, 8) + 2
        >>> context.update("low", low, torch.zeros(64).long())
        >>> context.update("high", high, torch.zeros(64).long())
        >>> context.components, context.select(torch.cat([high[:2], low[:1]]))
        ((('low', 0), ('high', 0)), tensor([1, 1, 0]))

    Attributes:
        threshold: Where inputs become unlike all, see the constructor; it may be changed.
        extract: What makes features of inputs.
    """

    _ESTIMATE = RidgeEstimate
    _TEMPERATURE = 0.1
