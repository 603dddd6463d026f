"""Synaptic intelligence."""

import torch
from torch import Tensor

from growmas.data import Task
from growmas.penalty import MAS
from growmas.structure import Structure
from growmas.training.methods.method import Method
from growmas.training.methods.path_integral import PathIntegral
from growmas.training.methods.settings import above, check_settings, number


class SynapticIntelligence(Method):
    """Keep parameters that lowered the loss of earlier tasks near their old values.

    Zenke, Poole and Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017:

        ω_i = −∫ g_i dθ_i  over a task's training (Eq. 3)
        Ω_i = Σ_tasks max(0, ω_i / ((Δ_i)² + ξ)) (Eq. 5)   L + c Σ_i Ω_i (θ*_i − θ_i)² (Eq. 4)

    g is the gradient of the task's loss without the penalty, Δ how far the parameter went during
    the task, θ* the parameters at the end of the last task.

    Differs from the paper: ω/(Δ² + ξ) below zero, of parameters that raised the loss, counts as
    zero in every task, so that no parameter is pushed away from its anchor; the optimizer keeps
    its state over tasks.

    Args:
        structure: The network.
        strength: c.
        damping: ξ, above 0.

    Attributes:
        path: ω and the start of the task being learnt.
    """

    mas: MAS
    SAVED = ("path",)

    def __init__(
        self, structure: Structure, *, strength: float = 0.1, damping: float = 0.1
    ) -> None:
        check_settings(strength=number(strength, least=0), damping=above(damping))
        super().__init__(structure)
        self.mas = MAS(structure.model, strength=strength)
        self._damping = damping
        self.path = PathIntegral(structure.model)

    def begin_task(self, task: Task) -> None:
        """Begin the path of the task."""
        super().begin_task(task)
        self.path.begin()

    def penalty_grad_(self) -> Tensor:
        """Note the gradient of the task's loss, then add that of the penalty."""
        self.path.before_step()
        return super().penalty_grad_()

    def step_done(self, task: Task) -> None:
        """Add the step to the path."""
        self.path.after_step()

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        """Consolidate what the path says."""
        omega = {n: torch.zeros_like(p) for n, p in self.structure.model.named_parameters()}
        for name, parameter in self.structure.model.named_parameters():
            if name in self.path.totals:
                moved = parameter - self.path.start[name]
                share = self.path.totals[name] / (moved.square() + self._damping)
                omega[name] = share.clamp(min=0)
        self.mas.consolidate(omega)
        self.path.end()
