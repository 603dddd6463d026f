"""Fits: the least squares problem of one layer, with the norm, sum and rectifier that follow it.

A layer gives A x + c, where A are its weights times the gain γ/σ of a BatchNorm that follows, and c
its bias or the norm's. With the network before the edit giving S (its branch plus its skip), and
the skip s of the network as it is now, the target is S − s. Then what is missing, S − s − A x − c,
is regressed on x: so the ridge, relative to the scale of x, pulls towards the present A.

What a rectifier cuts off need not be met. Where S ≤ 0, any prediction below 0 is as good, so three
times the target is set to min(prediction, 0) and the fit repeated (upper bounds, as of a ReLU6,
alike).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from growmas.structure.reconstruction.endings import Norm

RIDGE = (1e-5, 0.1)
"""Coefficients of ρ = first + second × (|K| / R)², with R = samples × positions."""

REFITS = 3
"""Number of fits after the first, where a rectifier follows."""

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True, eq=False)
class Fit:
    """A correction of A x + c.

    Attributes:
        weight: [G, F, O], what is added to Aᵀ.
        intercept: [G, O], what is added to c; zeros without intercept.
        mean: [G, F], the mean of x.
        variance: Returns [G, O], the variance of M x over the rows, for M [G, O, F].
    """

    weight: Tensor
    intercept: Tensor
    mean: Tensor
    variance: Callable[[Tensor], Tensor]


def fitted(seen: Tensor, now: Tensor, wanted: Tensor, bounds: Bounds, *, intercept: bool) -> Fit:
    """Return the correction that brings a layer's results closest to those wanted.

    Args:
        seen: [G, R, F], the rows that the layer reads.
        now: [G, R, O], its results, skip included.
        wanted: [G, R, O], those of the network before the edit.
        bounds: Between which both are clipped afterwards.
        intercept: False fits without, as for a layer that has no bias and no norm.
    """
    rows = seen if seen.dtype == torch.float64 else seen.float()
    mean = rows.mean(1, keepdim=True)
    centred, mean = rows - mean, mean[:, 0].double()
    solver = _Solver(centred if intercept else rows)
    now, wanted = now.to(rows.dtype), wanted.to(rows.dtype)
    target = wanted
    for _ in range(REFITS if any(bound is not None for bound in bounds) else 0):
        weight, shift = _solved(solver, target - now, mean, intercept=intercept)
        predicted = now + rows @ weight.to(rows.dtype) + shift[:, None].to(rows.dtype)
        target = free_beyond(wanted, predicted, bounds)
    weight, shift = _solved(solver, target - now, mean, intercept=intercept)
    return Fit(weight, shift, mean, partial(_variance_of_products, centred))


def free_beyond(wanted: Tensor, predicted: Tensor, bounds: Bounds) -> Tensor:
    """Return the targets, which beyond a bound are met by any prediction beyond it."""
    low, high = bounds
    target = wanted
    if low is not None:
        target = torch.where(wanted > low, target, predicted.clamp(max=low))
    if high is not None:
        target = torch.where(wanted < high, target, predicted.clamp(min=high))
    return target


def ridged(normal: Tensor, rows: int) -> Tensor:
    """Return normal equations [G, F, F] of so many rows with the ridge on the diagonal."""
    level = _ridge(normal.diagonal(dim1=1, dim2=2), rows)
    identity = torch.eye(normal.shape[-1], dtype=normal.dtype, device=normal.device)
    return normal + level[:, None, None] * identity


def _ridge(squares: Tensor, rows: int) -> Tensor:
    """Return the ridge [G] for features with these sums of squares [G, F] over so many rows."""
    ridge = RIDGE[0] + RIDGE[1] * (squares.shape[1] / rows) ** 2
    level = ridge * squares.mean(1)
    return torch.where(level > 0, level, 1.0)  # features that are constant


class _Solver:
    """Ridge regression on rows X: (XᵀX + λ)⁻¹ Xᵀ T, or Xᵀ (XXᵀ + λ)⁻¹ T where rows are fewer.

    Args:
        design: [G, R, F], X.
    """

    def __init__(self, design: Tensor) -> None:
        _, rows, features = design.shape
        self._design, self._by_rows = design, rows < features
        products = (design @ design.mT if self._by_rows else design.mT @ design).double()
        level = _ridge(design.square().sum(1, dtype=torch.float64), rows)
        products.diagonal(dim1=1, dim2=2).add_(level[:, None])
        self._factor = torch.linalg.lu_factor(products)

    def __call__(self, targets: Tensor) -> Tensor:
        """Return the weights [G, F, O] for targets [G, R, O]."""
        if self._by_rows:
            solution: Tensor = torch.linalg.lu_solve(*self._factor, targets.double())
            return (self._design.mT @ solution.to(self._design.dtype)).double()
        products = (self._design.mT @ targets).double()
        found: Tensor = torch.linalg.lu_solve(*self._factor, products)
        return found


def _variance_of_products(centred: Tensor, matrix: Tensor) -> Tensor:
    """Return [G, O], the variance of M x for centred rows [G, R, F] and M [G, O, F]."""
    return (centred @ matrix.mT.to(centred.dtype)).square().mean(1, dtype=torch.float64)


def _solved(
    solver: _Solver, missing: Tensor, mean: Tensor, *, intercept: bool
) -> tuple[Tensor, Tensor]:
    """Return the weights [G, F, O] and the intercept [G, O] that predict what is missing."""
    average = missing.mean(1, dtype=torch.float64)
    weight = solver(missing)
    shift = average - (mean[:, None] @ weight).squeeze(1)
    return weight, shift if intercept else torch.zeros_like(shift)


@dataclass(frozen=True, eq=False)
class Folded:
    """A layer and the norm after it that together give A x + c.

    Attributes:
        weight: [C, F], the layer's.
        scale: [C], γ of the norm.
        shift: [C], β of the norm.
        mean: [C], its running mean.
        var: [C], its running variance.
    """

    weight: Tensor
    scale: Tensor
    shift: Tensor
    mean: Tensor
    var: Tensor


def folded_into_norm(
    weight: Tensor, bias: Tensor | None, norm: Norm, fit: Fit, *, keep_statistics: bool
) -> Folded:
    """Return a layer and its norm with a correction, with the running statistics it then has.

    The gain γ/σ stays, so that a step of training changes as much as before; γ follows σ.

    Args:
        weight: [G, O, F], the layer's weights.
        bias: [C], its bias, which stays; None for none.
        norm: The norm.
        fit: The correction of what the norm gives.
        keep_statistics: Leave γ and the running statistics as they are.
    """
    gain = norm.gain
    floor = gain.abs().max().clamp(min=1e-12) * 1e-3
    safe = torch.where(gain.abs() > floor, gain, torch.where(gain < 0, -floor, floor))
    channels = len(gain)
    ratio = safe.view(*weight.shape[:2], 1)
    whole = gain.view_as(ratio) * weight.double() + fit.weight.mT  # A
    new = whole / ratio
    own = torch.zeros_like(gain) if bias is None else bias.detach().double()
    constant = norm.bias.detach().double() + gain * (own - norm.mean.double())
    constant = constant + fit.intercept.flatten()  # c
    centre = (whole @ fit.mean[..., None]).flatten()
    if keep_statistics and bool((safe == gain).all()):
        var, mean, scale = norm.var.double(), norm.mean.double(), norm.weight.detach().double()
        shift = constant - gain * (own - mean)
    else:
        spread = fit.variance(new).flatten()
        mean, var = (new @ fit.mean[..., None]).flatten() + own, spread
        scale, shift = safe * (var + norm.eps).sqrt(), constant + centre
    return Folded(new.reshape(channels, -1), scale, shift, mean, var)
