"""A histogram of the distances of known inputs; no sample is stored."""

import math

import torch
from torch import Tensor

CELLS = 1024
LEAST = 1e-3
RATIO = 1.01


class DistanceHistogram:
    """A histogram of squared distances per dimension, with cells 1% wide.

    Cell i counts distances from LEAST · RATIO^i up to the next cell; the first cell also counts
    all below 0.001 and the last all above 26 (the samples of a Gaussian lie around 1).

    Attributes:
        counts: int64 [CELLS], on the CPU.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(CELLS, dtype=torch.int64)

    @property
    def total(self) -> int:
        """Number of distances counted."""
        return int(self.counts.sum())

    def add(self, distances: Tensor) -> None:
        """Count distances [N]."""
        self.counts += torch.bincount(_cells(distances).cpu(), minlength=CELLS)

    def nearer(self, distances: Tensor) -> Tensor:
        """Return the share of known inputs that lie nearer, [N].

        It lies in 0 … n/(n+1) for n counted distances; distances in one cell count as equal. One
        minus the share is a conformal p-value (Vovk et al. 2005): a known input reaches a share
        of q with probability 1 − q at most.
        """
        below = self.counts.cumsum(0) - self.counts
        cells = _cells(distances)
        return below.to(cells.device)[cells].double() / (self.total + 1)


def _cells(distances: Tensor) -> Tensor:
    """Return the cell of each distance, int64 [N]."""
    steps = (distances / LEAST).clamp(min=1.0).log() / math.log(RATIO)
    return steps.clamp(max=CELLS - 1).long()
