"""Memory of samples of all tasks so far, of fixed size."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from growmas.data import Task


class Reservoir:
    """Keeps samples of everything seen, each with the same probability.

    Reservoir sampling, Vitter, "Random Sampling with a Reservoir", ACM TOMS 1985. The samples stay
    on the device they were given on.

    Args:
        size: The most samples that are kept.
        seed: Of the choice.

    Attributes:
        seen: Number of samples offered so far.
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self.size = size
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._inputs: Tensor | None = None
        self._labels: Tensor | None = None
        self._heads: Tensor | None = None

    def __len__(self) -> int:
        return min(self.seen, self.size)

    def state_dict(self) -> dict[str, Any]:
        """Return the samples, their number and the generator, as tensors and JSON values."""
        return {
            "seen": self.seen,
            "generator": self._generator.get_state(),
            "inputs": self._inputs,
            "labels": self._labels,
            "heads": self._heads,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.seen = int(state["seen"])
        self._generator.set_state(state["generator"])
        self._inputs, self._labels = state["inputs"], state["labels"]
        self._heads = state["heads"]

    def add(self, inputs: Tensor, labels: Tensor, task: Task) -> None:
        """Offer a batch of a task.

        Args:
            inputs: [N, ...].
            labels: int64 [N].
            task: Of the batch; its head is kept with each sample.
        """
        if self._inputs is None or self._labels is None or self._heads is None:
            self._inputs = inputs.new_empty(self.size, *inputs.shape[1:])
            self._labels = labels.new_empty(self.size)
            self._heads = labels.new_empty(self.size)
        for row in range(len(labels)):
            place = self.seen
            if place >= self.size:
                drawn = torch.randint(self.seen + 1, (1,), generator=self._generator)
                place = int(drawn)
            self.seen += 1
            if place < self.size:
                self._inputs[place] = inputs[row]
                self._labels[place] = labels[row]
                self._heads[place] = task.head

    def sample(self, count: int) -> list[tuple[Tensor, Tensor, int]]:
        """Draw samples with replacement.

        Args:
            count: Number of samples.

        Returns:
            Triples (inputs, labels, head), one for each head that was drawn; none while the memory
            is empty.
        """
        if self._inputs is None or self._labels is None or self._heads is None or not len(self):
            return []
        rows = torch.randint(len(self), (count,), generator=self._generator)
        rows = rows.to(self._labels.device)
        heads = self._heads[rows]
        return [
            (self._inputs[rows[heads == head]], self._labels[rows[heads == head]], int(head))
            for head in sorted({*heads.tolist()})
        ]
