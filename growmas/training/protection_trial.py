"""Trials of the protection of earlier tasks, on a held-out part of the second task."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from growmas.data import Split, Task, batches
from growmas.data.sources import held_out
from growmas.manager import AutoProtection, ProtectionChoice
from growmas.structure import Structure

HELD_OUT = 0.2
"""Share of the second task's training samples that the trials do not learn."""
KEPT = 256
"""Most samples of the first task that are kept until the choice."""
_BATCH = 1024


class Learns(Protocol):
    """The part of a method that a trial uses."""

    structure: Structure

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the mean loss of a batch."""

    def penalty_grad_(self) -> Tensor:
        """Add the gradient of the penalty."""


class ProtectionTrial:
    """Learns the second task with each protection, and takes the one that answers best.

    A trial has the epochs and the batch size of training, the optimizer with its state, and its
    learning rate without a schedule. Its score is the mean of two accuracies: of the first task's
    view on up to 256 of its training samples, which are kept until the choice, and of the second
    task on a fifth of its training samples, which trials do not learn. A penalty is taken if it is
    better than freezing by more than the largest standard error that this mean can have.

    Args:
        optimizer: Of the network.
        batch_size: Samples of a step.
        epochs: Passes of each trial.
    """

    def __init__(self, optimizer: Optimizer, *, batch_size: int, epochs: int) -> None:
        self._optimizer = optimizer
        self._size, self._epochs = batch_size, epochs
        self._first: tuple[Tensor, Tensor] | None = None

    def keep(self, task: Task) -> None:
        """Keep samples of the first task, evenly from all of it."""
        step = -(-len(task.train) // KEPT)
        rows = torch.arange(0, len(task.train), step)
        self._first = task.train.take(rows).clone(), task.train.labels[rows].clone()

    def choose(
        self, method: Learns, task: Task, first: tuple[str, int], protect: AutoProtection
    ) -> ProtectionChoice:
        """Compare the candidates on the second task, take the best, and drop what was kept.

        Args:
            method: Computes loss and penalty; it has begun the task.
            task: The second one.
            first: Name and head of the first task.
            protect: That chooses.
        """
        labels = task.train.labels
        mask = held_out(labels, int(labels.max()) + 1, HELD_OUT)
        if not mask.any():  # fewer than five samples of each class
            mask[-1] = True
        learnt, held = (task.train.subset(rows.nonzero().squeeze(1)) for rows in (~mask, mask))
        name, head = first

        def evaluate() -> float:
            second = self._right(method.structure, held, task.head)
            if self._first is None:
                return second
            with method.structure.view(name):
                return (second + self._right(method.structure, Split(*self._first), head)) / 2

        found = protect.choose(
            lambda: self._learn(method, task, learnt),
            evaluate,
            optimizer=self._optimizer,
            margin=largest_error(len(held), 0 if self._first is None else len(self._first[1])),
        )
        self._first = None
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the samples that are kept; empty where there are none."""
        if self._first is None:
            return {}
        inputs, labels = self._first
        return {"inputs": inputs, "labels": labels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned."""
        self._first = (state["inputs"], state["labels"]) if state else None

    def _learn(self, method: Learns, task: Task, learnt: Split) -> None:
        model = method.structure.model
        device = next(model.parameters()).device
        model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = group.get("initial_lr", self._optimizer.defaults["lr"])
        generator = torch.Generator().manual_seed(task.index)
        for _ in range(self._epochs):
            for inputs, labels in batches(learnt, self._size, generator=generator):
                loss = method.loss(inputs.to(device), labels.to(device), task)
                self._optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                method.penalty_grad_()
                self._optimizer.step()

    @staticmethod
    @torch.no_grad()
    def _right(structure: Structure, split: Split, head: int) -> float:
        """Return the share of samples that a head answers right."""
        model = structure.model
        device = next(model.parameters()).device
        mode, right = model.training, 0
        model.eval()
        for inputs, labels in batches(split, _BATCH):
            right += int((model(inputs.to(device), head).argmax(1).cpu() == labels).sum())
        model.train(mode)
        return right / len(split)


def largest_error(second: int, first: int = 0) -> float:
    """Return the standard error of the mean of two accuracies, each of them a half.

    Args:
        second: Samples of the one.
        first: Samples of the other; 0 without it.
    """
    if not first:
        return math.sqrt(0.25 / second)
    return math.sqrt(0.25 / second + 0.25 / first) / 2
