"""Path integrals: how much each parameter contributed to the decrease of a loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class PathIntegral:
    """The sum over steps of −g_i Δθ_i for each parameter, g the gradient of the loss.

    For small steps the sum over parameters is the decrease of the loss along the path.

    Args:
        model: The network; frozen parameters contribute nothing.

    Attributes:
        totals: Parameter name -> the sum since `begin`.
        start: Parameter name -> θ at `begin`; empty outside a path.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.totals: dict[str, Tensor] = {}
        self.start: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}

    @torch.no_grad()
    def begin(self) -> None:
        """Begin a path at the present parameters."""
        self.start = {name: p.detach().clone() for name, p in self._parameters()}
        self.totals = {name: torch.zeros_like(p) for name, p in self.start.items()}

    @torch.no_grad()
    def before_step(self) -> None:
        """Note gradients and parameters; call it after backward, before a penalty's gradient."""
        self._before, self._gradients = {}, {}
        for name, parameter in self._parameters():
            if parameter.grad is not None:
                self._gradients[name] = parameter.grad.detach().clone()
                self._before[name] = parameter.detach().clone()

    @torch.no_grad()
    def after_step(self) -> None:
        """Add what the step contributed; call it after the step of the optimizer."""
        parameters = dict(self._parameters())
        for name, gradient in self._gradients.items():
            moved = parameters[name].detach() - self._before[name]
            self.totals[name].addcmul_(gradient, moved, value=-1)
        self._before, self._gradients = {}, {}

    def end(self) -> None:
        """End the path; nothing of it is kept."""
        self.start, self.totals = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and the start of the path; both are empty outside a path."""
        return {"totals": dict(self.totals), "start": dict(self.start)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        own = dict(self._parameters())
        self.totals, self.start = (
            {name: tensor.to(own[name].device) for name, tensor in state[part].items()}
            for part in ("totals", "start")
        )

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
