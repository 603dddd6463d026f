"""Baseline that learns all tasks at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.data import Split, Stream, Task, joined
from growmas.structure import Structure
from growmas.training.methods.method import Method


class Joint(Method):
    """Learns all tasks together when the first one begins, in as many epochs as each has.

    The number of steps in all is that of methods that learn one task after another. Later tasks
    add nothing to learn, so every row of the accuracy matrix is of the same network.
    """

    def __init__(self, structure: Structure, stream: Stream) -> None:
        super().__init__(structure)
        sizes = torch.tensor(stream.head_sizes)
        self._heads = torch.arange(len(sizes)).repeat_interleave(sizes)
        self._lesson = _together(stream, (sizes.cumsum(0) - sizes).tolist())

    @property
    def numbers_kept(self) -> int:
        """Numbers of the network, and of all training samples with their labels."""
        sample = self._lesson.stored[0].numel() + 1
        return super().numbers_kept + len(self._lesson) * sample

    def lesson(self, task: Task) -> Split | None:
        """Return the samples of all tasks for the first one, labelled by their output in all."""
        return None if task.index else self._lesson

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the cross entropy of each sample over the outputs of its own head."""
        outputs = self.structure.model(inputs)
        logits = torch.cat(outputs, 1) if isinstance(outputs, tuple) else outputs
        heads = self._heads.to(labels.device)
        others = heads != heads[labels][:, None]
        return F.cross_entropy(logits.masked_fill(others, -torch.inf), labels)


def _together(stream: Stream, offsets: list[int]) -> Split:
    return joined(
        [task.train.relabelled(task.train.labels + offsets[task.head]) for task in stream.tasks]
    )
