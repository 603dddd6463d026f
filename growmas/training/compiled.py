"""Compiled training steps of a network that changes its shape."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from growmas.structure import Structure


class CompiledModel:
    """Runs a network through `torch.compile` inside of a block, and as it is outside.

    Importance and views look at the network by hooks, which compiled code would not call, so that
    only training steps are compiled. They are compiled anew after an edit of the structure, and for
    every task, which has a head of its own.

    Args:
        structure: The units of the network.
    """

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._compiled_for: tuple[int, ...] | None = None
        self._compiled: Any = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let calls of the network run compiled code while the block runs."""
        model = self._structure.model
        widths = (group.width for group in self._structure.groups.values())
        now = (len(self._structure.tasks), *widths)
        if now != self._compiled_for:
            if self._compiled_for is not None:
                torch.compiler.reset()
            self._compiled = torch.compile(model._call_impl)
            self._compiled_for = now
        before = model._compiled_call_impl
        model._compiled_call_impl = self._compiled
        try:
            yield
        finally:
            model._compiled_call_impl = before
