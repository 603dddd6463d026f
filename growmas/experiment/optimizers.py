"""Optimizers, built from a config."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from growmas.config import TrainingConfig


def build_optimizer(
    config: TrainingConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer a config describes, over the parameters that are not frozen."""
    parameters = [each for each in parameters if each.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    fused = _fuses(parameters)
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=rate, weight_decay=decay, momentum=config.momentum, fused=fused
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay, fused=fused)


def _fuses(parameters: Sequence[nn.Parameter]) -> bool | None:
    """Return True if one kernel can update all parameters: the same numbers up to rounding."""
    fits = all(
        each.device.type in ("cpu", "cuda") and each.dtype in (torch.float32, torch.float64)
        for each in parameters
    )
    return True if parameters and fits else None
