"""Inputs unlike everything that was learnt: from distances to a decision."""

import math
from typing import Any

import torch
from torch import Tensor

from growmas.contexts.context import UNKNOWN
from growmas.contexts.novelty import Distances
from growmas.errors import ContextError


def share_nearer(distances: Distances, squared: Tensor, dimensions: int) -> Tensor:
    """Return the share of known inputs that lie nearer, [N] in 0 … 1.

    Args:
        distances: Those of calibration samples, per dimension. Where there are none, the χ²
            distribution is taken, which Gaussian inputs would follow.
        squared: Squared Mahalanobis distance to every component, [N, M].
        dimensions: D.
    """
    least = squared.amin(1)
    if distances.total:
        return distances.nearer(least / dimensions)
    share: Tensor = torch.special.gammainc(squared.new_tensor(dimensions / 2), least / 2)
    return share


def without_outliers(chosen: Tensor, share: Tensor, threshold: float, *, together: bool) -> Tensor:
    """Replace the tasks [N] of samples that are unlike all by `UNKNOWN`.

    A sample is where its share of nearer inputs reaches the threshold, and samples that come
    together are where that of more than half of them is.
    """
    unlike = share >= threshold
    if together:
        unlike = (unlike.sum() * 2 > len(unlike)).expand(len(unlike))
    return torch.where(unlike, UNKNOWN, chosen)


def threshold_faults(threshold: Any) -> list[str]:
    """Return what is wrong with a threshold, if anything."""
    if threshold is None or (is_number(threshold) and 0 < threshold < 1):
        return []
    return [f"threshold must lie between 0 and 1, or be None, got {threshold!r}"]


def check_threshold(threshold: float, distances: Distances) -> None:
    """Refuse a threshold that is out of range, or too high for the calibration samples.

    Raises:
        ContextError: Says how many samples it needs.
    """
    faults = threshold_faults(threshold)
    if faults:
        raise ContextError(faults[0])
    total = distances.total
    if total and total / (total + 1) < threshold:
        needed = math.ceil(threshold / (1 - threshold) - 1e-9)
        raise ContextError(
            f"threshold={threshold} cannot be told from {total} calibrated samples, it needs "
            f"{needed}: calibrate with more, or lower it"
        )


def is_number(value: object) -> bool:
    """Return True for an int or a float that is not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
