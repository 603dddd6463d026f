"""Exemplars: a few samples of each class, chosen by herding."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from growmas.training.methods.settings import check_settings, whole


class Exemplars:
    """Samples of each class in the order in which herding chose them, of fixed size in all.

    Args:
        size: K, the most samples that are kept; each of t classes has K // t of them.

    Raises:
        ConfigError: The size is not a whole number above 0.

    Attributes:
        inputs: Class -> its samples [m, ...], the most typical set first.
    """

    def __init__(self, size: int) -> None:
        check_settings(size=whole(size, least=1))
        self.size = size
        self.inputs: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return sum(map(len, self.inputs.values()))

    def share(self, classes: int) -> int:
        """Return how many samples each of so many classes has, at least 1."""
        return max(1, self.size // classes)

    def shrink(self, each: int) -> None:
        """Keep the first samples of every class alone."""
        self.inputs = {label: kept[:each].clone() for label, kept in self.inputs.items()}

    def add(self, label: int, inputs: Tensor, features: Tensor, each: int) -> None:
        """Choose the samples of a class.

        Args:
            label: The class.
            inputs: [N, ...], all its samples.
            features: [N, F] of these.
            each: How many to keep.
        """
        self.inputs[label] = inputs[herding(features, each).to(inputs.device)].clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the samples, by class."""
        return {"inputs": {str(label): kept for label, kept in self.inputs.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.inputs = {int(label): kept for label, kept in state["inputs"].items()}


def herding(features: Tensor, count: int) -> Tensor:
    """Return rows of features [N, F] whose mean is near that of all, in order of choice, int64.

    Rebuffi et al., iCaRL, Algorithm 4: sample k is the one, not yet chosen, that brings the mean of
    the first k nearest to the mean μ of all, p_k = argmin ‖μ − (φ(x) + Σ_{j<k} φ(p_j)) / k‖.

    Args:
        features: φ, [N, F].
        count: How many; all N if there are fewer.
    """
    mean, total = features.mean(0), torch.zeros_like(features[0])
    chosen: list[int] = []
    free = torch.ones(len(features), dtype=torch.bool, device=features.device)
    for k in range(1, min(count, len(features)) + 1):
        far = (mean - (features + total) / k).square().sum(1)
        row = int(far.masked_fill(~free, torch.inf).argmin())
        chosen.append(row)
        free[row] = False
        total = total + features[row]
    return torch.tensor(chosen)
