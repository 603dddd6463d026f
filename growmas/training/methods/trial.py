"""A short training run on a copy, to see how well a new task will go."""

import itertools
import statistics

import torch
import torch.nn.functional as F
from torch import nn

from growmas.data import Task, batches
from growmas.manager.situation import Trial
from growmas.penalty import MAS

LAST = 5
"""Steps at the end of a trial whose mean loss is what it reached."""


class TrialRun:
    """A few steps of training on a task, the same batches every time it is asked.

    Args:
        optimizer: One of the kind and the settings to train with.
        steps: Their number.
        batch_size: Samples of a step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int, batch_size: int) -> None:
        self._kind, self._defaults = type(optimizer), dict(optimizer.defaults)
        self._steps, self._size = steps, batch_size

    def on(self, task: Task) -> Trial:
        """The trial of a task, as `StructuralManager.begin_task` takes it."""

        def trial(model: nn.Module, mas: MAS) -> float:
            optimizer = self._kind(model.parameters(), **self._defaults)
            device = next(model.parameters()).device
            losses = []
            for inputs, labels in self._batches(task):
                logits = model(inputs.to(device), task.head)
                loss = F.cross_entropy(logits, labels.to(device))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                mas.penalty_grad_()
                optimizer.step()
                losses.append(float(loss.detach()))
            return statistics.mean(losses[-LAST:])

        return trial

    def _batches(self, task: Task) -> "itertools.islice[tuple[torch.Tensor, torch.Tensor]]":
        generator = torch.Generator().manual_seed(task.index)
        epochs = itertools.repeat(None)
        endless = (
            batch for _ in epochs for batch in batches(task.train, self._size, generator=generator)
        )
        return itertools.islice(endless, self._steps)
