"""Elimination: units are removed one by one, the one that its readers miss least first.

A layer r reads rows x with covariance C and gives W x. Without the features of unit j, the best
linear prediction of W x from the others, with intercept, misses

    Δ_j = tr(W_j P_jj⁻¹ W_jᵀ),    P = C⁻¹,

where W_j are the columns of the unit's features (the taps of a channel, the pixels of a flattened
map, the channels of a head), and P_jj is their block. Removing j then leaves

    W ← W − W_j P_jj⁻¹ P_j:,    P ← P − P_:j P_jj⁻¹ P_j:,

the refitted weights and the inverse covariance of the features that remain. W is divided by
√tr(W C Wᵀ), so that Δ is relative to all that r gives and several readers add up; the running sum
of Δ is the relative error of the output of r if r alone were refitted by least squares.

    >>> seen = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> seen[:, 2] = seen[:, 0] + 0.01 * seen[:, 1]  # units 0 and 2 say nearly the same
    >>> weight, features = torch.ones(1, 1, 3), torch.arange(3)[:, None]
    >>> reading = Reading(weight, torch.cov(seen.T)[None], features)
    >>> elimination = Elimination([reading])
    >>> elimination.cheapest(torch.ones(3, dtype=torch.bool)), round(elimination.remove(0), 5)
    (0, 4e-05)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-4
"""Ridge of a covariance, relative to the mean variance of its features."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Weights and inputs with which one layer reads the units of a group.

    Attributes:
        weight: [G, O, F], W.
        covariance: [G, F, F], C, without ridge.
        features: [U, t], the features of each unit, the same in every block.
    """

    weight: Tensor
    covariance: Tensor
    features: Tensor


class Elimination:
    """Greedy backward elimination of the units of one group.

    Args:
        readings: How each layer reads the units; a layer whose rows are constant says nothing.

    Attributes:
        errors: Relative error of each reader's output so far, in the order of the readings.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._states = [_State(reading) for reading in readings]
        self.units = len(readings[0].features)
        self.errors = [0.0 for _ in readings]
        self._living = torch.ones(self.units, dtype=torch.bool)

    @property
    def informed(self) -> bool:
        """True if some reader's rows are not constant."""
        return any(state.informed for state in self._states)

    def costs(self) -> Tensor:
        """Return [U], Σ_r Δ_j of each unit; infinite for those removed."""
        total = torch.zeros(self.units, dtype=torch.float64)
        for state in self._states:
            total += state.costs()
        return total.masked_fill(~self._living, torch.inf)

    def cheapest(self, allowed: Tensor, extra: Tensor | None = None) -> int:
        """Return the unit that is missed least, the first of equal ones.

        Args:
            allowed: [U] bool, units that may go.
            extra: [U], added to the costs.
        """
        costs = self.costs()
        costs = costs if extra is None else costs + extra
        return int(costs.masked_fill(~allowed, torch.inf).argmin())

    def remove(self, unit: int) -> float:
        """Remove a unit; return its cost Σ_r Δ_j."""
        losses = [state.remove(unit) for state in self._states]
        self.errors = [error + loss for error, loss in zip(self.errors, losses, strict=True)]
        self._living[unit] = False
        return sum(losses)


class _State:
    """W and P of one reader, with the features in the order of the units, others last."""

    def __init__(self, reading: Reading) -> None:
        self._units, self._taps = reading.features.shape
        size = reading.covariance.shape[-1]
        own = reading.features.flatten()
        others = torch.ones(size, dtype=torch.bool)
        others[own] = False
        order = torch.cat([own, others.nonzero().squeeze(1)]).to(reading.weight.device)
        covariance = reading.covariance.double()[:, order[:, None], order]
        weight = reading.weight.double()[..., order]
        level = covariance.diagonal(dim1=1, dim2=2).mean(1)
        self.informed = bool((level > 0).any())
        # a block whose rows are constant: its output is constant whatever is removed
        level = torch.where(level > 0, level, 1.0)
        covariance, self._inverse = _regular(covariance, level)
        spread = float((weight @ covariance * weight).sum())
        self._weight = weight / spread**0.5 if self.informed and spread > 0 else weight * 0

    def costs(self) -> Tensor:
        """Return [U], Δ_j."""
        blocks, held = len(self._weight), self._units * self._taps
        own = self._weight[..., :held].unflatten(-1, (self._units, self._taps))
        square = self._inverse[:, :held, :held].reshape(
            blocks, self._units, self._taps, self._units, self._taps
        )
        parts = square.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # P_jj: [G, U, t, t]
        if self._taps == 1:
            losses: Tensor = (own.square().sum(1)[..., 0] / parts[..., 0, 0]).sum(0)
            return losses.cpu()
        products = torch.einsum("gout,gous->guts", own, own)
        total: Tensor = (products * torch.linalg.inv(parts)).sum((0, 2, 3))
        return total.cpu()

    def remove(self, unit: int) -> float:
        """Remove the features of a unit; return Δ_j."""
        at = slice(unit * self._taps, (unit + 1) * self._taps)
        block, rows = self._inverse[:, at, at].clone(), self._inverse[:, at].clone()
        passed = torch.linalg.solve(block, rows)  # P_jj⁻¹ P_j:
        gone = self._weight[..., at]
        lost = float((gone @ torch.linalg.inv(block) * gone).sum())
        self._weight = self._weight - gone @ passed
        self._inverse.baddbmm_(rows.mT, passed, alpha=-1.0)
        # what is removed: W_j = 0 exactly, and a block that can be inverted
        self._weight[..., at] = 0.0
        self._inverse[:, at] = 0.0
        self._inverse[:, :, at] = 0.0
        self._inverse[:, at, at] = torch.eye(self._taps, dtype=torch.float64, device=block.device)
        return max(lost, 0.0)


def _regular(covariance: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return a covariance [G, F, F] with a ridge, and its inverse.

    Rounding may leave it with negative eigenvalues, as where the squares of tiny inputs lie below
    the range of float32; then the ridge is larger.

    Args:
        covariance: Without ridge.
        level: [G], its mean variance.
    """
    ridge = RIDGE
    while True:
        ridged = covariance.clone()
        ridged.diagonal(dim1=1, dim2=2).add_(ridge * level[:, None])
        factor, failed = torch.linalg.cholesky_ex(ridged)
        if not bool(failed.any()):
            return ridged, torch.cholesky_inverse(factor)
        ridge *= 10
