"""Experience replay, and dark experience replay."""

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.data import Task
from growmas.structure import Structure
from growmas.training.methods.method import Method
from growmas.training.methods.reservoir import Replayed, Reservoir
from growmas.training.methods.settings import check_settings, number, whole


class ER(Method):
    """Learn each batch together with as many samples from a memory of all tasks so far.

    Chaudhry et al., "On Tiny Episodic Memories in Continual Learning" (arXiv 1902.10486),
    Algorithm 1 with reservoir sampling: the loss is the mean cross entropy over the batch and the
    samples drawn, each through the head of its task.

    Differs from the paper: a task may take several epochs, of which the first alone offers samples
    to the memory, so that none is kept twice. A size of tens of samples, as in the paper, is
    given by `memory`.

    Args:
        structure: The network.
        memory: The most samples that are kept.
        replayed: Samples drawn for each batch; None for as many as the batch has.
        seed: Of the memory.

    Attributes:
        memory: The samples kept.
    """

    SAVED = ("memory", "_epoch")

    def __init__(
        self,
        structure: Structure,
        *,
        memory: int = 500,
        replayed: int | None = None,
        seed: int = 0,
    ) -> None:
        check_settings(memory=whole(memory, least=1), replayed=whole(replayed, least=1, none=True))
        super().__init__(structure)
        self.memory = Reservoir(memory, seed=seed)
        self._replayed = replayed
        self._epoch = 0

    def begin_task(self, task: Task) -> None:
        """Offer the samples of the first epoch to the memory."""
        super().begin_task(task)
        self._epoch = 0

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the mean cross entropy over the batch and the samples drawn."""
        parts = self.memory.draw(self._replayed or len(labels), inputs.device)
        if self._epoch == 0:
            self.memory.add(inputs, labels, task)
        parts.append(Replayed(inputs, labels, task.head, None))
        total, count = labels.new_zeros(()), sum(len(part.labels) for part in parts)
        for head in sorted({part.head for part in parts}):
            mine = [part for part in parts if part.head == head]
            logits = self.structure.model(torch.cat([part.inputs for part in mine]), head)
            truth = torch.cat([part.labels for part in mine])
            total = total + F.cross_entropy(logits, truth, reduction="sum")
        return total / count

    def epoch_done(self, task: Task, epoch: int) -> None:
        """Count the epochs of the task."""
        self._epoch = epoch


class DERpp(Method):
    """Replay samples with the logits that the network gave when they were stored, and labels.

    Buzzega et al., "Dark Experience for General Continual Learning", NeurIPS 2020, the
    objective of DER++, with two independent draws (x', y', z') and (x'', y'', z'') from the memory:

        CE(y, h(x)) + α ‖z' − h(x')‖² + β CE(y'', h(x''))

    where the squared distance is the mean over logits, as in the released code. Samples are
    offered to the memory in every epoch, with the logits they got in that step.

    Differs from the paper: with a head for each task the logits are those of the sample's own
    head; there is no augmentation of inputs.

    Args:
        structure: The network.
        memory: The most samples that are kept.
        alpha: Weight of the distance of logits.
        beta: Weight of the replayed labels.
        replayed: Samples in each draw; None for as many as the batch has.
        seed: Of the memory.

    Attributes:
        memory: The samples kept, with their logits.
    """

    SAVED = ("memory",)

    def __init__(
        self,
        structure: Structure,
        *,
        memory: int = 500,
        alpha: float = 0.2,
        beta: float = 0.5,
        replayed: int | None = None,
        seed: int = 0,
    ) -> None:
        check_settings(
            memory=whole(memory, least=1),
            alpha=number(alpha, least=0),
            beta=number(beta, least=0),
            replayed=whole(replayed, least=1, none=True),
        )
        super().__init__(structure)
        self.memory = Reservoir(memory, seed=seed)
        self._alpha, self._beta = alpha, beta
        self._replayed = replayed

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the loss of the batch, and of two draws from the memory."""
        model, count = self.structure.model, self._replayed or len(labels)
        dark, labelled = (self.memory.draw(count, inputs.device) for _ in range(2))
        logits = model(inputs, task.head)
        value = F.cross_entropy(logits, labels)
        for part in dark if self._alpha else ():
            now = model(part.inputs, part.head)
            then = torch.zeros_like(now) if part.logits is None else part.logits
            distance = F.mse_loss(now, then[:, : now.shape[1]])
            value = value + self._alpha * len(part.labels) / count * distance
        for part in labelled if self._beta else ():
            again = F.cross_entropy(model(part.inputs, part.head), part.labels)
            value = value + self._beta * len(part.labels) / count * again
        self.memory.add(inputs, labels, task, logits=logits)
        return value
