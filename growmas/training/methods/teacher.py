"""Teacher: a frozen copy of the network as it was at the end of the last task."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class Teacher:
    """Copy of a network that answers as the network did when the copy was made.

    Args:
        model: The network to copy.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._copy: nn.Module | None = None

    def __bool__(self) -> bool:
        """Return True once a copy was made."""
        return self._copy is not None

    def renew(self) -> None:
        """Copy the network as it is now."""
        self._copy = deepcopy(self._model).requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, inputs: Tensor, head: int) -> Tensor:
        """Return the logits of one head, in eval mode."""
        if self._copy is None:
            raise ValueError("no copy was made")  # callers ask `bool(teacher)` first
        logits: Tensor = self._copy(inputs, head)
        return logits

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the copy; None without one."""
        return {"weights": None if self._copy is None else dict(self._copy.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._copy = None
        if state["weights"] is not None:
            self.renew()
            self._copy.load_state_dict(state["weights"])  # type: ignore[attr-defined]
