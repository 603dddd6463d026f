"""Temperature of class scores, chosen on samples whose class is known."""

import torch
from torch import Tensor

STEPS = 80
RATIO = 1.05


class Calibration:
    """Summed loss of calibration samples for each of many temperatures; no sample is stored.

    Temperatures lie 5% apart, from 1/50 to 50 times the default. Sums add up over calls, tasks and
    shards.

    Attributes:
        default: The temperature before any sample came.
        losses: float64 [161], Σ −log p(what is known of a sample) for each of `temperatures`.
        samples: How many were added.
    """

    def __init__(self, default: float) -> None:
        self.default = default
        self.losses = torch.zeros(2 * STEPS + 1, dtype=torch.float64)
        self.samples = 0

    @property
    def temperatures(self) -> list[float]:
        """Temperatures that are compared (Guo et al., ICML 2017), in rising order."""
        return [self.default * RATIO**step for step in range(-STEPS, STEPS + 1)]

    @property
    def temperature(self) -> float:
        """The temperature of the least summed loss; the default before any sample came."""
        return self.temperatures[int(self.losses.argmin())] if self.samples else self.default

    def add(self, logits: Tensor, known: Tensor) -> None:
        """Add samples.

        Args:
            logits: [N, M] of all components, of temperature 1.
            known: bool [N, M], the components that each sample may be of; one at least.
        """
        barred = torch.zeros_like(logits).masked_fill(~known, -torch.inf)
        for place, temperature in enumerate(self.temperatures):
            log_p = (logits / temperature).log_softmax(1)
            self.losses[place] -= float((log_p + barred).logsumexp(1).sum())
        self.samples += len(logits)

    def merge(self, other: "Calibration") -> None:
        """Add the samples of another one with the same default."""
        self.losses = self.losses + other.losses
        self.samples += other.samples
