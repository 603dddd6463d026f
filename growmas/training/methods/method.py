"""What every method does, which by itself is plain fine-tuning."""

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.batches import Forward
from growmas.contexts import Context
from growmas.data import Split, Task, batches
from growmas.manager import StructuralManager
from growmas.penalty import MAS
from growmas.structure import Structure

IMPORTANCE_BATCH = 256


class Method:
    """Learn each task with nothing done for the earlier ones: plain fine-tuning.

    A learner asks it for the samples of a lesson and for the loss of a batch, and at the end for
    labels. N samples.

    Attributes:
        structure: The units of the network that learns.
        mas: Importance over tasks, None where the method has none.
        context: What names the task of a sample, None where the method has none.
        manager: What grows and prunes the network, None where the method has none.
    """

    manager: StructuralManager | None = None

    def __init__(
        self, structure: Structure, mas: MAS | None = None, context: Context | None = None
    ) -> None:
        self.structure = structure
        self.mas = mas
        self.context = context

    @property
    def parameters(self) -> int:
        """Number of parameters that were learnt by training."""
        return self.structure.parameters

    def begin_task(self, task: Task) -> None:
        """Called before a task is learnt."""
        self.structure.begin_task(task.name)

    def lesson(self, task: Task) -> Split | None:
        """The samples to learn now that `task` has come; None if there is nothing to train."""
        return task.train

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Mean loss of a batch of the lesson, a scalar."""
        return F.cross_entropy(self.structure.model(inputs, task.head), labels)

    def penalty_grad_(self) -> Tensor:
        """Add the gradient of λ Σ Ω (θ − θ*)², if there is one, to the task's; its value."""
        return self.mas.penalty_grad_() if self.mas else torch.zeros(())

    def epoch_done(self, task: Task, epoch: int) -> None:
        """Called after every pass over the lesson, counted from 1."""

    def end_task(self, task: Task) -> None:
        """Called after a task was learnt, with its training data at hand."""

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Labels [N] of samples: of `task`, or of nobody knows which where that is None."""
        logits: Tensor = self.structure.model(inputs, task.head if task else 0)
        return logits.argmax(1)


def inputs_of(task: Task) -> list[Tensor]:
    """The training inputs of a task in batches."""
    return [inputs for inputs, _ in batches(task.train, IMPORTANCE_BATCH)]


def through(head: int) -> Forward:
    """A batch's way through the model to one head."""
    return lambda model, inputs: model(inputs, head)
