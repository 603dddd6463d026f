"""The last few steps: what was seen, and the network as it was."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

EVERY = 5
"""Steps from one kept state of the network to the next."""

KEPT = 4
"""How many states are kept."""


@dataclass
class Seen:
    """One batch that was learnt.

    Attributes:
        step: Of the stream.
        inputs: As given.
        labels: As given.
        loss: Of the first gradient step, before the update and without the penalty.
        taken: Whether the context has taken it in.
    """

    step: int
    inputs: Any
    labels: Any
    loss: float
    taken: bool = False


class Recent:
    """The last `size` batches, in order.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self._held: deque[Seen] = deque(maxlen=size)

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._held)

    def add(self, seen: Seen) -> None:
        """Keep a batch; the oldest goes once there are too many."""
        self._held.append(seen)

    def since(self, step: int) -> list[Seen]:
        """Those of `step` and later."""
        return [seen for seen in self._held if seen.step >= step]

    def before(self, step: int) -> list[Seen]:
        """Those from before `step`."""
        return [seen for seen in self._held if seen.step < step]

    def keep(self, chosen: list[Seen]) -> None:
        """Forget all others."""
        self._held = deque(chosen, maxlen=self._held.maxlen)

    def state_dict(self) -> list[dict[str, Any]]:
        """Tensors and JSON values."""
        return [vars(seen).copy() for seen in self._held]

    def load_state_dict(self, state: list[Mapping[str, Any]]) -> None:
        """Take over what `state_dict` gave."""
        self.keep([Seen(**held) for held in state])


class Rewind:
    """The network as it was a few steps ago: every fifth state of the last twenty steps.

    A shift is noticed a few steps after it began, and what the network learnt meanwhile, through
    the wrong view, is undone.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: deque[tuple[int, dict[str, Tensor]]] = deque(maxlen=KEPT)

    def keep(self, step: int) -> None:
        """Note the state before `step`, if it is time to."""
        if step % EVERY == 0 or not self._kept:
            self._kept.append((step, {n: t.detach().clone() for n, t in _tensors(self._model)}))

    def back_to(self, step: int) -> int | None:
        """Return to the latest state kept of before `step`, or to the oldest there is.

        Returns:
            The step whose state it is; None where none is kept, and nothing was done.
        """
        if not self._kept:
            return None
        fitting = [kept for kept in self._kept if kept[0] <= step]
        reached, state = fitting[-1] if fitting else self._kept[0]
        while self._kept[-1][0] > reached:
            self._kept.pop()  # what later ones hold is undone
        with torch.no_grad():
            for name, tensor in _tensors(self._model):
                tensor.copy_(state[name])
        return reached

    def forget(self) -> None:
        """Keep nothing: the network has changed its shape, or its task."""
        self._kept.clear()

    def state_dict(self) -> list[list[Any]]:
        """Tensors and JSON values."""
        return [[step, dict(state)] for step, state in self._kept]

    def load_state_dict(self, state: list[list[Any]]) -> None:
        """Take over what `state_dict` gave."""
        self._kept = deque(((step, dict(held)) for step, held in state), maxlen=KEPT)


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put the model's buffers back if anything is raised: a norm takes in a batch as it runs."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        raise


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()
