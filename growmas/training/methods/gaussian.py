"""Baseline without a network: Gaussians of the classes."""

from torch import Tensor

from growmas.contexts import GaussianContext
from growmas.data import Split, Stream, Task, batches
from growmas.structure import Structure
from growmas.training.methods.method import IMPORTANCE_BATCH, Method


class GaussianClasses(Method):
    """Predicts by the Gaussians of a context, one for every class of every task.

    The network is never trained.
    """

    context: GaussianContext

    def __init__(self, structure: Structure, context: GaussianContext, stream: Stream) -> None:
        super().__init__(structure, context=context)
        self._width = max(stream.head_sizes)

    @property
    def parameters(self) -> int:
        """Always 0; the numbers of the Gaussians belong to the context."""
        return 0

    def lesson(self, task: Task) -> Split | None:
        """Return None: there is nothing to train."""
        return None

    def end_task(self, task: Task) -> None:
        """Update the context with the mean and the covariance of the task's classes."""
        for inputs, labels in batches(task.train, IMPORTANCE_BATCH):
            self.context.update(task.name, inputs, labels)

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Return the likeliest label, over the classes of all tasks where the task is unknown."""
        scores = self.context.class_scores(inputs)
        found = scores.new_full((len(scores), self._width), -float("inf"))
        for column, (name, label) in zip(scores.unbind(1), self.context.components, strict=True):
            if task is None or name == task.name:
                found[:, label] = found[:, label].logaddexp(column)
        return found.argmax(1).to(inputs.device)
