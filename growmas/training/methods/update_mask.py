"""Masks of updates: how far each entry of a parameter may move in a step of the optimizer."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

HEADS = "heads."
"""Beginning of the names of parameters of heads."""


class UpdateMask:
    """Scales what a step of the optimizer changes, entry by entry.

    The change is scaled, not the gradient: momentum, moments and weight decay would move entries
    without a gradient, and Adam undoes a scale of gradients. For SGD without momentum and decay
    both are the same. An entry with the factor 0 keeps its bits.

    Args:
        model: The network.

    Attributes:
        factors: Parameter name -> factors in 0 … 1 of its shape, or bool; others move freely.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.factors: Mapping[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_step(self) -> None:
        """Note the parameters; call it before the step of the optimizer."""
        parameters = dict(self.model.named_parameters())
        self._before = {name: parameters[name].detach().clone() for name in self.factors}

    @torch.no_grad()
    def after_step(self) -> None:
        """Scale what the step changed."""
        parameters = dict(self.model.named_parameters())
        for name, before in self._before.items():
            factor, parameter = self.factors[name].to(before.device), parameters[name]
            if factor.dtype == torch.bool:
                parameter.copy_(torch.where(factor, parameter, before))
            else:
                parameter.copy_(torch.lerp(before, parameter, factor.to(before)))
        self._before = {}


def other_heads(model: nn.Module, head: int) -> dict[str, Tensor]:
    """Return factors that let no head but one move."""
    return {
        name: torch.zeros_like(parameter, dtype=torch.bool)
        for name, parameter in model.named_parameters()
        if name.startswith(HEADS) and not name.startswith(f"{HEADS}{head}.")
    }


def keep_statistics(model: nn.Module) -> None:
    """Put norms that have running statistics into eval mode, so that these stay as they are."""
    for module in model.modules():
        if module._buffers.get("running_mean") is not None:
            module.eval()
