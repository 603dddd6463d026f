"""How far known inputs lie from what was learnt, as counts: no sample is stored."""

import math

import torch
from torch import Tensor

CELLS = 1024
LEAST = 1e-3
RATIO = 1.01


class DistanceHistogram:
    """A histogram of squared distances per dimension, its cells 1% wide.

    Cell i holds distances from LEAST · RATIO^i on, up to the next; the first and the last hold
    what lies beyond 0.001 and 26 too (a Gaussian's own samples lie around 1).

    Attributes:
        counts: int64 [CELLS], on the CPU.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(CELLS, dtype=torch.int64)

    @property
    def total(self) -> int:
        """DistanceHistogram counted."""
        return int(self.counts.sum())

    def add(self, distances: Tensor) -> None:
        """Count distances [N]."""
        self.counts += torch.bincount(_cells(distances).cpu(), minlength=CELLS)

    def nearer(self, distances: Tensor) -> Tensor:
        """Share of known inputs that lie nearer, [N] in 0 … n/(n+1) for n counted distances.

        DistanceHistogram in one cell count as equal. One minus this is a conformal p-value (Vovk et al.
        2005): a known input reaches q with a probability of at most 1 − q.
        """
        below = self.counts.cumsum(0) - self.counts
        cells = _cells(distances)
        return below.to(cells.device)[cells].double() / (self.total + 1)


def _cells(distances: Tensor) -> Tensor:
    steps = (distances / LEAST).clamp(min=1.0).log() / math.log(RATIO)
    return steps.clamp(max=CELLS - 1).long()
