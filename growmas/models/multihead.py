"""Base class of the reference models: dense layers, and a head for each task."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from growmas.errors import ConfigError


class MultiHead(nn.Module):
    """Features, dense ReLU layers ``fc1`` … ``fcL``, and linear heads ``heads.0`` ….

    A subclass defines the features, and calls :meth:`_add_dense` once in its constructor,
    after its own layers, so that ``named_parameters`` runs from input to output.
    """

    heads: nn.ModuleList

    def features(self, inputs: Tensor) -> Tensor:
        """Return [N, *input_shape] → [N, features], the input of ``fc1``."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, head: int | None = None) -> Tensor | tuple[Tensor, ...]:
        """Return the logits of one head, or of all.

        Args:
            inputs: [N, *input_shape].
            head: its index. None runs every head, as analysis of the whole network needs.

        Returns:
            [N, size of the head]; for None and more than one head, a tuple of all of these.
        """
        hidden = self.features(inputs)
        for index in range(1, self._depth + 1):
            hidden = torch.relu(self.get_submodule(f"fc{index}")(hidden))
        if head is not None:
            logits: Tensor = self.heads[head](hidden)
            return logits
        outputs = tuple(module(hidden) for module in self.heads)
        return outputs if len(outputs) > 1 else outputs[0]

    def _add_dense(self, features: int, hidden: Sequence[int], head_sizes: Sequence[int]) -> None:
        check_sizes("hidden", hidden, at_least=0)
        check_sizes("head_sizes", head_sizes, at_least=1)
        widths = (features, *hidden)
        for index, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            self.add_module(f"fc{index}", nn.Linear(fan_in, fan_out))
        self.heads = nn.ModuleList(nn.Linear(widths[-1], size) for size in head_sizes)
        self._depth = len(hidden)


def check_sizes(name: str, sizes: Sequence[int], *, at_least: int) -> None:
    """Refuse widths that are not positive, or too few of them."""
    if len(sizes) < at_least or any(size < 1 for size in sizes):
        raise ConfigError(
            f"{name} must be at least {at_least} positive whole numbers, got {list(sizes)}"
        )
