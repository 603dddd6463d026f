"""Outputs and losses of a network in each of its contexts."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward, default_forward
from growmas.contexts.answering import TaskForward
from growmas.structure import Structure


class ContextOutputs:
    """Runs a network in a context: through its view, and its head where each has one.

    Args:
        structure: The units of the network; its tasks are the contexts.
        forward: (model, inputs, position of the context) -> output, for a network with a head for
            each context; None calls the model with the inputs.
        loss: (output, labels) -> the mean loss of a batch.
    """

    def __init__(
        self,
        structure: Structure,
        forward: TaskForward | None,
        loss: Callable[[Tensor, Any], Tensor],
    ) -> None:
        self._structure = structure
        self._forward = forward
        self._loss = loss

    def output(self, model: nn.Module, inputs: Any, context: int) -> Tensor:
        """Return the output of the model as it is, through the head of a context."""
        if self._forward is not None:
            return self._forward(model, inputs, context)
        output: Tensor = default_forward(model, inputs)
        return output

    def forward(self, context: int) -> Forward:
        """Return the function (model, inputs) -> output of a context."""
        return lambda model, inputs: self.output(model, inputs, context)

    def loss(self, model: nn.Module, inputs: Any, labels: Any, context: int) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        return self._loss(self.output(model, inputs, context), labels)

    def view(self, context: int) -> AbstractContextManager[object]:
        """Return the view of a context; the newest one sees the whole network."""
        newest = context == len(self._structure.tasks) - 1
        return nullcontext() if newest else self._structure.view(context)

    def measure(self, inputs: Any, labels: Any, context: int) -> float:
        """Return the mean loss of a batch in eval mode, through the view of a context."""
        model = self._structure.model.eval()
        with torch.no_grad(), self._structure.view(context):
            return float(self.loss(model, inputs, labels, context))

    def answer(self, inputs: Any, context: int) -> Tensor:
        """Return the output in eval mode, through the view of a context; the mode is kept."""
        model = self._structure.model
        mode = model.training
        model.eval()
        with torch.no_grad(), self.view(context):
            output = self.output(model, inputs, context)
        model.train(mode)
        return output


def in_train_mode(model: nn.Module) -> nn.Module:
    """Return a model in train mode; `train` is not called again on every head at every step."""
    return model if model.training else model.train()
