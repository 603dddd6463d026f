"""All tasks at once: what learning one after another is measured against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.data import Split, Stream, Task
from growmas.structure import Structure
from growmas.training.methods.method import Method


class Joint(Method):
    """All tasks are learnt together when the first one comes, in as many epochs as each has.

    That is as many steps in all as methods take that learn one task after another. Later tasks
    bring nothing to learn, so that every row of the accuracy matrix is of the same network.
    """

    def __init__(self, structure: Structure, stream: Stream) -> None:
        super().__init__(structure)
        sizes = torch.tensor(stream.head_sizes)
        self._heads = torch.arange(len(sizes)).repeat_interleave(sizes)
        self._lesson: Split | None = _together(stream, (sizes.cumsum(0) - sizes).tolist())

    def lesson(self, task: Task) -> Split | None:
        """The samples of all tasks, labelled by the place of their output among all heads'."""
        lesson, self._lesson = self._lesson, None
        return lesson

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Cross entropy of each sample over the outputs of its own head."""
        outputs = self.structure.model(inputs)
        logits = torch.cat(outputs, 1) if isinstance(outputs, tuple) else outputs
        heads = self._heads.to(labels.device)
        others = heads != heads[labels][:, None]
        return F.cross_entropy(logits.masked_fill(others, -torch.inf), labels)


def _together(stream: Stream, offsets: list[int]) -> Split:
    parts = [task.train for task in stream.tasks]
    labels = [task.train.labels + offsets[task.head] for task in stream.tasks]
    return Split(torch.cat([part.inputs for part in parts]), torch.cat(labels))
