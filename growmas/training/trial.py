"""Trials: short training runs on a copy of a network, to see how well a new task will go."""

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from growmas.data import Task, batches
from growmas.manager.situation import Trial
from growmas.penalty import MAS

STEPS = 20
LAST = 5
"""Steps at the end of a trial whose mean loss is its result."""


class Trials:
    """Makes the trial that `GrowByNeed` asks for: the same batches every time.

    Args:
        optimizer: Of the kind and the settings to train with.
        steps: Gradient steps of a trial.
        batch_size: Samples of a step.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, steps: int = STEPS, batch_size: int = 128
    ) -> None:
        self._kind, self._settings = type(optimizer), dict(optimizer.defaults)
        self._steps, self._size = steps, batch_size

    def on_task(self, task: Task, loss: Callable[[nn.Module, Any], Tensor]) -> Trial:
        """Return the trial of a task, on shuffled batches of its training samples."""
        generator = torch.Generator().manual_seed(task.index)
        endless = (
            batch
            for _ in itertools.repeat(None)
            for batch in batches(task.train, self._size, generator=generator)
        )
        return self.on_batches(list(itertools.islice(endless, self._steps)), loss)

    def on_batches(
        self, given: Sequence[tuple[Any, Any]], loss: Callable[[nn.Module, Any], Tensor]
    ) -> Trial:
        """Return the trial on some batches, over and over.

        Args:
            given: Pairs (inputs, labels), as many as there are.
            loss: (model, batch) -> the task's loss.
        """

        def trial(model: nn.Module, mas: MAS) -> float:
            optimizer = self._kind(model.parameters(), **self._settings)
            losses = []
            for batch in itertools.islice(itertools.cycle(given), self._steps):
                value = loss(model, batch)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                mas.penalty_grad_()
                optimizer.step()
                losses.append(float(value.detach()))
            return statistics.mean(losses[-LAST:])

        return trial
