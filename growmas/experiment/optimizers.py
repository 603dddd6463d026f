"""Optimizers, built from a config."""

from collections.abc import Iterable

import torch
from torch import nn

from growmas.config import TrainingConfig


def build_optimizer(
    config: TrainingConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer a config describes, over the parameters that are not frozen."""
    parameters = [each for each in parameters if each.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=config.momentum)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay)
