"""The last few steps: batches, and states of the network."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from growmas.penalty.parameters import KnownParameters

EVERY = 5
"""Steps from one kept state of the network to the next."""

KEPT = 4
"""Number of states kept."""


@dataclass
class Seen:
    """Batch that was learnt.

    Attributes:
        step: Of the stream.
        inputs: As given, without random changes.
        labels: As given.
        loss: Of the first gradient step, before the update and without the penalty.
        taken: True once the statistics of its context include it.
        changed: The inputs with the random changes with which they were learnt; None for none.
    """

    step: int
    inputs: Any
    labels: Any
    loss: float
    taken: bool = False
    changed: Any = None

    @property
    def learnt(self) -> Any:
        """The inputs as the network learnt them."""
        return self.inputs if self.changed is None else self.changed


class Recent:
    """The last `size` batches, in order.

    Args:
        size: Number of batches.
    """

    def __init__(self, size: int) -> None:
        self._held: deque[Seen] = deque(maxlen=size)

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._held)

    def add(self, seen: Seen) -> None:
        """Keep a batch; the oldest is dropped once there are too many."""
        self._held.append(seen)

    def since(self, step: int) -> list[Seen]:
        """Return the batches of `step` and later."""
        return [seen for seen in self._held if seen.step >= step]

    def before(self, step: int) -> list[Seen]:
        """Return the batches from before `step`."""
        return [seen for seen in self._held if seen.step < step]

    def keep(self, chosen: list[Seen]) -> None:
        """Keep only some batches."""
        self._held = deque(chosen, maxlen=self._held.maxlen)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return everything as tensors and JSON values."""
        return [vars(seen).copy() for seen in self._held]

    def load_state_dict(self, state: list[Mapping[str, Any]]) -> None:
        """Take over what `state_dict` returned."""
        self.keep([Seen(**held) for held in state])


class Rewind:
    """Earlier states of a network: every fifth of the last twenty steps.

    A shift is noticed a few steps after it began; what the network learnt in these steps, through
    the wrong view, is undone.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known = KnownParameters(model, buffers=True)
        self._kept: deque[tuple[int, dict[str, Tensor]]] = deque(maxlen=KEPT)

    def keep(self, step: int) -> None:
        """Keep the state before `step`, at every fifth step."""
        if step % EVERY == 0 or not self._kept:
            now = self._tensors()
            oldest = self._kept[0][1] if len(self._kept) == KEPT else {}
            if list(now) == list(oldest) and _kinds(now) == _kinds(oldest):
                with torch.no_grad():
                    torch._foreach_copy_(list(oldest.values()), list(now.values()))
                self._kept.append((step, oldest))  # drops it at the other end
            else:
                self._kept.append((step, {n: t.detach().clone() for n, t in now.items()}))

    def back_to(self, step: int) -> int | None:
        """Return to the latest state kept from before `step`, or to the oldest.

        Returns:
            The step of that state; None if no state is kept, and nothing was done.
        """
        if not self._kept:
            return None
        fitting = [kept for kept in self._kept if kept[0] <= step]
        reached, state = fitting[-1] if fitting else self._kept[0]
        while self._kept[-1][0] > reached:
            self._kept.pop()  # later states are undone
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(state[name])
        return reached

    def forget(self) -> None:
        """Drop all states: the network has changed its shape, or its task."""
        self._kept.clear()

    def state_dict(self) -> list[list[Any]]:
        """Return everything as tensors and JSON values."""
        return [[step, _copied(state)] for step, state in self._kept]

    def load_state_dict(self, state: list[list[Any]]) -> None:
        """Take over what `state_dict` returned."""
        self._kept = deque(((step, _copied(held)) for step, held in state), maxlen=KEPT)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the parameters and buffers of the network by name."""
        if not self._known.are_current():
            self._known = KnownParameters(self._model, buffers=True)
        return {**self._known.by_name, **self._known.buffers}


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies, since states that are kept are written over."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restore the model's buffers after an exception: a forward pass updates norms."""
    before = [(buffer, buffer.clone()) for buffer in _buffers(model)]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        raise


def _kinds(tensors: Mapping[str, Tensor]) -> list[object]:
    """Return the shape, dtype and device of each tensor."""
    return list(map(attrgetter("shape", "dtype", "device"), tensors.values()))


def _buffers(model: nn.Module) -> Iterator[Tensor]:
    """Yield the buffers, some of them twice; several times as fast as `model.buffers()`."""
    modules = [model]
    for module in modules:
        if module._buffers:
            yield from (buffer for buffer in module._buffers.values() if buffer is not None)
        if module._modules:
            modules += [child for child in module._modules.values() if child is not None]
