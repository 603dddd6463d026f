"""Compiled training steps of a network that changes its shape."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from growmas.structure import Structure


class CompiledModel:
    """Runs a network through `torch.compile` inside of a block, and as it is outside.

    Importance and views look at the network by hooks, which compiled code would not call, so that
    only training steps are compiled. After an edit of the structure they are compiled anew.

    Args:
        structure: The units of the network.
    """

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._widths: tuple[int, ...] | None = None
        self._compiled: Any = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let calls of the network run compiled code while the block runs."""
        model = self._structure.model
        widths = tuple(group.width for group in self._structure.groups.values())
        if widths != self._widths:
            if self._widths is not None:
                torch.compiler.reset()
            self._compiled = torch.compile(model._call_impl)
            self._widths = widths
        before = model._compiled_call_impl
        model._compiled_call_impl = self._compiled
        try:
            yield
        finally:
            model._compiled_call_impl = before
