"""Outliers: from squared distances of inputs to the decision that they are unlike everything."""

import math

import torch
from torch import Tensor

from growmas.contexts.context import UNKNOWN
from growmas.contexts.distances import DistanceHistogram
from growmas.contexts.settings import check_threshold
from growmas.errors import ContextError


def share_nearer(distances: DistanceHistogram, squared: Tensor, dimensions: int) -> Tensor:
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
    together are where that of more than half of them does.
    """
    unlike = share >= threshold
    if together:
        unlike = (unlike.sum() * 2 > len(unlike)).expand(len(unlike))
    return torch.where(unlike, UNKNOWN, chosen)


def check_measurable(threshold: float, distances: DistanceHistogram) -> None:
    """Refuse a threshold out of range, or too fine for the number of calibrated samples.

    Raises:
        ContextError: Says how many samples it needs.
    """
    check_threshold(threshold)
    total = distances.total
    if total and total / (total + 1) < threshold:
        raise ContextError(
            f"threshold={threshold} cannot be measured with {total} calibrated samples, it "
            f"needs {math.ceil(threshold / (1 - threshold) - 1e-9)}: calibrate with more, or "
            "lower it"
        )
