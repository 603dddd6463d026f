"""Outputs of a network that stand for the labels of the tasks so far."""

import torch
from torch import Tensor

from growmas.data import Stream, Task


class KnownOutputs:
    """Outputs of each head, by the tasks that they were learnt in.

    Args:
        stream: The tasks. In scenario class a task has its own outputs of the one head, otherwise
            all outputs of its head.
    """

    def __init__(self, stream: Stream) -> None:
        self._tasks = stream.tasks
        self._sizes = stream.head_sizes
        self._of_class = stream.scenario == "class"

    def of(self, task: Task) -> Tensor:
        """Return the outputs of a task's head that are its own, int64 [C]."""
        if self._of_class:
            return torch.tensor(task.classes)
        return torch.arange(self._sizes[task.head])

    def before(self, task: Task) -> dict[int, Tensor]:
        """Return head -> its outputs of the tasks before `task`, in order, each once."""
        return self._joined([each for each in self._tasks if each.index < task.index])

    def until(self, task: Task) -> dict[int, Tensor]:
        """Return head -> its outputs of the tasks up to `task`, in order, each once."""
        return self._joined([each for each in self._tasks if each.index <= task.index])

    def _joined(self, tasks: list[Task]) -> dict[int, Tensor]:
        found: dict[int, list[Tensor]] = {}
        for task in tasks:
            found.setdefault(task.head, []).append(self.of(task))
        return {head: torch.unique(torch.cat(parts)) for head, parts in found.items()}
