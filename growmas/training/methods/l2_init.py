"""Regularisation toward the initial parameters."""

import torch
from torch import Tensor

from growmas.structure import Structure
from growmas.training.methods.method import Method
from growmas.training.methods.settings import check_settings, number


class L2Init(Method):
    """Pull every parameter toward its initial value, so that the network stays plastic.

    Kumar, Marklund and Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative
    Regularization" (arXiv 2308.11958):

        L(θ) + λ ‖θ − θ_0‖²

    Differs from the paper: nothing. It does not protect earlier tasks.

    Args:
        structure: The network; its parameters now are θ_0.
        strength: λ.

    Attributes:
        initial: Parameter name -> θ_0, of those that are trained.
    """

    SAVED = ("initial",)

    def __init__(self, structure: Structure, *, strength: float = 0.01) -> None:
        check_settings(strength=number(strength, least=0))
        super().__init__(structure)
        self._strength = strength
        self.initial = {
            name: parameter.detach().clone()
            for name, parameter in structure.model.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def penalty_grad_(self) -> Tensor:
        """Add 2λ (θ − θ_0) to the gradients, and return λ ‖θ − θ_0‖²."""
        value = torch.zeros((), device=next(self.structure.model.parameters()).device)
        for name, parameter in self.structure.model.named_parameters():
            if name not in self.initial:
                continue
            apart = parameter - self.initial[name].to(parameter.device)
            value = value + self._strength * apart.square().sum()
            step = 2 * self._strength * apart
            parameter.grad = step if parameter.grad is None else parameter.grad.add_(step)
        return value
