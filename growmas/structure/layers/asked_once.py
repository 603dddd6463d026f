"""Memory of an analysis, which asks a layer for its axes at many places.

The axes of a layer are computed from its attributes, so they may change from edit to edit, but not
while a network is analysed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from torch import nn

Answer = TypeVar("Answer")

_ANSWERS: ContextVar[dict[nn.Module, object] | None] = ContextVar("answers", default=None)


@contextmanager
def asking_once() -> Iterator[None]:
    """Keep answers about modules while the context lasts, in which no module changes."""
    token = _ANSWERS.set({})
    try:
        yield
    finally:
        _ANSWERS.reset(token)


def asked_once(module: nn.Module, ask: Callable[[nn.Module], Answer]) -> Answer:
    """Return `ask(module)`; inside `asking_once`, the answer that was given before.

    Args:
        module: The module.
        ask: The question, always the same one.
    """
    known = _ANSWERS.get()
    if known is None:
        return ask(module)
    if module not in known:
        known[module] = ask(module)
    return known[module]  # type: ignore[return-value]
