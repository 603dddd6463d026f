"""Trials: short training runs on copies of a network, to see which loss they reach."""

import copy
from typing import Any

import torch

from growmas.errors import PlanError
from growmas.manager.situation import Trial
from growmas.penalty import MAS


def trial_loss(mas: MAS, trial: Trial) -> float:
    """Return the loss that a trial reaches on copies of the network and its penalty.

    The network, the penalty and torch's random state are bit-identical afterwards. Anything else
    that the trial uses (such as a data loader with its own generator) is not restored.

    Args:
        mas: The penalty, which holds the network.
        trial: (model, mas) -> loss.

    Raises:
        PlanError: The trial does not return a number.
    """
    scratch = copy.deepcopy(mas)
    devices = sorted({p.device.index or 0 for p in mas.model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        loss: Any = trial(scratch.model, scratch)
    try:
        return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PlanError(
            f"trial returned {loss!r:.80}: expected a number, the loss it reached"
        ) from error
