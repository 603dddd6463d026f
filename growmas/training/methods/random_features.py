"""Random features: rectified random projections."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from growmas.contexts.freezing import adopt_extract, extract_state
from growmas.contexts.projection import Extract
from growmas.errors import ContextError


class RandomFeatures:
    """Features h = relu(Wᵀ f) of features f, W [F, M] of independent standard normal numbers.

    Args:
        count: M.
        seed: Of W, which is drawn at the first call.
        extract: Inputs -> f [N, F]; None flattens the inputs.
    """

    def __init__(self, count: int, *, seed: int = 0, extract: Extract | None = None) -> None:
        self.count = count
        self.seed = seed
        self.extract = extract
        self._matrix: Tensor | None = None

    def __call__(self, inputs: Any) -> Tensor:
        """Return h, [N, M].

        Raises:
            ContextError: f has another size than before.
        """
        found: Tensor = inputs.flatten(1) if self.extract is None else self.extract(inputs)
        if self._matrix is None:
            generator = torch.Generator().manual_seed(self.seed)
            self._matrix = torch.randn(found.shape[1], self.count, generator=generator)
        if found.shape[1] != len(self._matrix):
            raise ContextError(
                f"a sample has {found.shape[1]} features, but earlier samples had "
                f"{len(self._matrix)}: give all tasks inputs of one size"
            )
        return torch.relu(found.float() @ self._matrix.to(found.device))

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, from which W follows, and the state of `extract`."""
        return {"count": self.count, "seed": self.seed, "extract": extract_state(self.extract)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that the settings are the same, and take over the state of `extract`.

        Raises:
            ContextError: The settings differ, or what `extract` froze does.
        """
        ours, theirs = (self.count, self.seed), (state.get("count"), state.get("seed"))
        if ours != theirs:
            raise ContextError(
                f"random features have count and seed {theirs} instead of {ours}: give both the "
                "same settings"
            )
        adopt_extract(self.extract, state["extract"], "the state")

    def __repr__(self) -> str:
        return f"RandomFeatures({self.count}, seed={self.seed}, extract={self.extract!r})"
