"""Fits: the least squares problem of one layer, with the norm, sum and rectifier that follow it.

A layer gives A x + c, where A are its weights times the gain γ/σ of a BatchNorm that follows, and c
its bias or the norm's. With the network before the edit giving S (its branch plus its skip), and
the skip s of the network as it is now, the target is S − s. Then what is missing, S − s − A x − c,
is regressed on x: so the ridge, relative to the scale of x, pulls towards the present A.

What a rectifier cuts off need not be met. Where S ≤ 0, any prediction below 0 is as good, so three
times the target is set to min(prediction, 0) and the fit repeated (upper bounds, as of a ReLU6,
alike).
"""

from dataclasses import dataclass

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
        gram: [G, F, F], Σ_rows (x − x̄)(x − x̄)ᵀ / R.
    """

    weight: Tensor
    intercept: Tensor
    mean: Tensor
    gram: Tensor


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
    scatter = (centred.mT @ centred).double()
    design = centred if intercept else rows
    normal = scatter if intercept else (rows.mT @ rows).double()
    factor = torch.linalg.lu_factor(ridged(normal, rows.shape[1]))
    now, wanted = now.to(rows.dtype), wanted.to(rows.dtype)
    target = wanted
    for _ in range(REFITS if any(bound is not None for bound in bounds) else 0):
        weight, shift = _solved(design, target - now, factor, mean, intercept=intercept)
        predicted = now + rows @ weight.to(rows.dtype) + shift[:, None].to(rows.dtype)
        target = free_beyond(wanted, predicted, bounds)
    weight, shift = _solved(design, target - now, factor, mean, intercept=intercept)
    return Fit(weight, shift, mean, scatter / rows.shape[1])


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
    features = normal.shape[-1]
    ridge = RIDGE[0] + RIDGE[1] * (features / rows) ** 2
    level = ridge * normal.diagonal(dim1=1, dim2=2).mean(1)
    level = torch.where(level > 0, level, 1.0)  # features that are constant
    identity = torch.eye(features, dtype=normal.dtype, device=normal.device)
    return normal + level[:, None, None] * identity


def _solved(
    design: Tensor, missing: Tensor, factor: tuple[Tensor, Tensor], mean: Tensor, *, intercept: bool
) -> tuple[Tensor, Tensor]:
    """Return the weights [G, F, O] and the intercept [G, O] that predict what is missing."""
    average = missing.mean(1, dtype=torch.float64)
    products = (design.mT @ missing).double()
    weight: Tensor = torch.linalg.lu_solve(*factor, products)
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
        spread = ((new @ fit.gram) * new).sum(-1).flatten().clamp(min=0)
        mean, var = (new @ fit.mean[..., None]).flatten() + own, spread
        scale, shift = safe * (var + norm.eps).sqrt(), constant + centre
    return Folded(new.reshape(channels, -1), scale, shift, mean, var)
