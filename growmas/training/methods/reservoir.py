"""Memory of samples of all tasks so far, of fixed size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.data import Task
from growmas.training.methods.settings import check_settings, whole

_STORED = ("inputs", "labels", "heads", "logits")


@dataclass(frozen=True, eq=False)
class Replayed:
    """N stored samples of one head.

    Attributes:
        inputs: [N, ...].
        labels: int64 [N].
        head: Of all of them.
        logits: [N, C] as they were stored; None if no logits were.
    """

    inputs: Tensor
    labels: Tensor
    head: int
    logits: Tensor | None


class Reservoir:
    """Keeps samples of everything seen, each with the same probability.

    Reservoir sampling, Vitter, "Random Sampling with a Reservoir", ACM TOMS 1985. The samples stay
    on the device they were given on.

    Args:
        size: The most samples that are kept.
        seed: Of the choice.

    Raises:
        ConfigError: The size is not a whole number above 0.

    Attributes:
        seen: Number of samples offered so far.
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        check_settings(size=whole(size, least=1))
        self.size = size
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._held: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self.seen, self.size)

    def state_dict(self) -> dict[str, Any]:
        """Return the samples, their number and the generator, as tensors and JSON values."""
        held = {name: t[: len(self)] for name, t in self._held.items()}
        return {
            "seen": self.seen,
            "generator": self._generator.get_state(),
            **{name: held.get(name) for name in _STORED},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.seen = int(state["seen"])
        self._generator.set_state(state["generator"])
        self._held = {}
        for name in _STORED:
            held = state.get(name)
            if held is not None:
                self._held[name] = held.new_zeros(self.size, *held.shape[1:])
                self._held[name][: len(self)] = held[: len(self)]

    def add(
        self, inputs: Tensor, labels: Tensor, task: Task, *, logits: Tensor | None = None
    ) -> None:
        """Offer a batch of a task.

        Args:
            inputs: [N, ...].
            labels: int64 [N].
            task: Of the batch; its head is kept with each sample.
            logits: [N, C] to keep with the samples, in every batch or in none; C may differ.
        """
        batch = {"inputs": inputs, "labels": labels, "heads": torch.full_like(labels, task.head)}
        if logits is not None:
            batch["logits"] = logits.detach()
        self._make_room(batch)
        places = self._places(len(labels))
        rows = [row for row, place in enumerate(places) if place < self.size]
        for row in rows:  # one by one, as a later sample may take the place of an earlier one
            for name, tensor in batch.items():
                held = self._held[name][places[row]]
                if name == "logits":
                    held[: tensor.shape[1]] = tensor[row]
                else:
                    held.copy_(tensor[row])

    def draw(self, count: int, device: torch.device | None = None) -> list[Replayed]:
        """Draw samples with replacement: one entry for each head that was drawn.

        Args:
            count: Number of samples.
            device: Where the samples are wanted; None leaves them where they are kept.

        Returns:
            Nothing while the memory is empty.
        """
        if not len(self):
            return []
        rows = torch.randint(len(self), (count,), generator=self._generator)
        if device is not None:  # a checkpoint gives them back on the CPU
            self._held = {name: tensor.to(device) for name, tensor in self._held.items()}
        found = {name: tensor[rows.to(tensor.device)] for name, tensor in self._held.items()}
        heads = found["heads"]
        parts = []
        for head in sorted({*heads.tolist()}):
            mine = {name: tensor[heads == head] for name, tensor in found.items()}
            parts.append(Replayed(mine["inputs"], mine["labels"], int(head), mine.get("logits")))
        return parts

    def sample(self, count: int) -> list[tuple[Tensor, Tensor, int]]:
        """Draw samples with replacement.

        Args:
            count: Number of samples.

        Returns:
            Triples (inputs, labels, head), one for each head that was drawn; none while the memory
            is empty.
        """
        return [(part.inputs, part.labels, part.head) for part in self.draw(count)]

    def _places(self, count: int) -> list[int]:
        """Return where each of the next samples goes; `size` or more for those not kept."""
        places = []
        for _ in range(count):
            place = self.seen
            if place >= self.size:
                place = int(torch.randint(self.seen + 1, (1,), generator=self._generator))
            places.append(place)
            self.seen += 1
        return places

    def _make_room(self, batch: Mapping[str, Tensor]) -> None:
        """Make the tensors that hold samples, and widen that of the logits where it must be."""
        for name, tensor in batch.items():
            held = self._held.get(name)
            if held is None:
                self._held[name] = tensor.new_zeros(self.size, *tensor.shape[1:])
            elif name == "logits" and tensor.shape[1] > held.shape[1]:
                wider = held.new_zeros(self.size, tensor.shape[1])
                wider[:, : held.shape[1]] = held
                self._held[name] = wider
