"""Gaussian densities, made from moments."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from growmas.contexts.context import TaskKey
from growmas.errors import ContextError
from growmas.moments import Moments

Component = tuple[TaskKey, int | None]
"""A task and one of its labels; None for a single Gaussian of the whole task."""

ROUNDING = 1e-14
"""Variance over squared mean below which samples count as identical: float32 rounding."""


@dataclass(frozen=True, eq=False)
class Density:
    """A Gaussian in D dimensions.

    Attributes:
        mean: [D] float64.
        whitening: W [D, D] float64 with W Wᵀ = Σ⁻¹.
        log_norm: log |2π Σ|.
    """

    mean: Tensor
    whitening: Tensor
    log_norm: float

    def squared(self, rows: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of rows [N, D], [N]."""
        return ((rows - self.mean) @ self.whitening).square().sum(1)


def densities(moments: Mapping[Component, Moments], shrinkage: float) -> list[Density]:
    """Return a Gaussian for each component, its covariance shrunk towards a sphere.

    Σ' = (1 − s) Σ + s v I, where v is the mean variance (tr Σ / D, weighted by samples) of the
    components of the same task. A component whose samples are all identical gets a sphere with
    the mean variance of the other components, or 1 if there is none.

    Args:
        moments: Component -> its moments in D dimensions.
        shrinkage: s, 0 … 1.

    Raises:
        ContextError: A covariance is singular; names the component.
    """
    common = _mean_variance(moments.values())
    of_task = {
        task: _mean_variance(held for (owner, _), held in moments.items() if owner == task)
        for task in dict.fromkeys(task for task, _ in moments)
    }
    return [_density(c, held, shrinkage, of_task[c[0]], common) for c, held in moments.items()]


def _density(
    component: Component, moments: Moments, shrinkage: float, of_task: float, common: float
) -> Density:
    """Return the Gaussian of one component; see `densities`."""
    mean, covariance = moments.mean[0], moments.scatter[0] / moments.count
    sphere = torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    spread = _variance(moments) > 0
    shrunk = (1 - shrinkage) * covariance + shrinkage * of_task * sphere
    factor, failed = torch.linalg.cholesky_ex(shrunk if spread else common * sphere)
    if failed:
        task, label = component
        named = f"task {task!r}" + ("" if label is None else f", class {label}")
        raise ContextError(
            f"the covariance of {named} is singular: {moments.count} samples in {len(mean)} "
            "dimensions; give shrinkage > 0, more samples or fewer features"
        )
    inverse = torch.linalg.solve_triangular(factor, sphere, upper=False)
    log_norm = len(mean) * math.log(2 * math.pi) + 2 * float(factor.diagonal().log().sum())
    return Density(mean, inverse.mT.contiguous(), log_norm)


def _variance(moments: Moments) -> float:
    """Return the mean variance tr Σ / D, 0 where it is within rounding."""
    variance = float(moments.scatter[0].diagonal().mean()) / moments.count
    return variance if variance > ROUNDING * float(moments.mean[0].square().mean()) else 0.0


def _mean_variance(moments: Iterable[Moments]) -> float:
    """Return the mean variance of several, weighted by samples; 1 where none varies."""
    spread = [(held.count, _variance(held)) for held in moments]
    samples = sum(count for count, variance in spread if variance)
    return sum(count * variance for count, variance in spread) / samples if samples else 1.0
