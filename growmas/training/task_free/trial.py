"""A short training run on the first batches of a context, to see how well it will go."""

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from growmas.manager.situation import Trial
from growmas.penalty import MAS

STEPS = 20
LAST = 5
"""Steps at the end of a trial whose mean loss is what it reached."""


def trial_on(
    batches: Sequence[tuple[Any, Any]],
    loss: Callable[[nn.Module, Any], Tensor],
    optimizer: torch.optim.Optimizer,
    steps: int = STEPS,
) -> Trial:
    """The trial for `GrowByNeed`: the batches over and over.

    Args:
        batches: (inputs, labels) of the context, as many as there are.
        loss: (model, batch) -> the task's loss.
        optimizer: One of the kind and the settings to train with.
        steps: Of the trial.
    """
    kind, settings = type(optimizer), dict(optimizer.defaults)

    def trial(model: nn.Module, mas: MAS) -> float:
        own = kind(model.parameters(), **settings)
        losses = []
        for batch in itertools.islice(itertools.cycle(batches), steps):
            value = loss(model, batch)
            own.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            mas.penalty_grad_()
            own.step()
            losses.append(float(value.detach()))
        return statistics.mean(losses[-LAST:])

    return trial
