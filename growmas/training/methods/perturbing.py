"""Methods that perturb parameters against the loss of plasticity: shrink and perturb, and UPGD."""

import torch
from torch import Tensor, nn

from growmas.data import Task
from growmas.structure import Structure
from growmas.training.methods.method import Method


class ShrinkPerturb(Method):
    """Shrink all parameters at every step and add noise of the size of their first values.

    Ash and Adams, "On warm-starting neural network training" (arXiv 1910.08475), Eq. 1, at every
    step as in Dohare et al. (Nature 632, 2024):

        θ ← (1 − shrink) θ + noise · s · ε,  ε ~ N(0, 1)

    with s = 1/√(3 fan_in), the scale of a layer's default start.

    Differs from the paper: parameters of norms and other layers without a matrix are left alone.

    Args:
        structure: The network.
        shrink: Share of each parameter that is taken away per step.
        noise: Size of the noise per step.
        seed: Of the noise.
    """

    SAVED = ("generator",)

    def __init__(
        self, structure: Structure, *, shrink: float = 1e-4, noise: float = 1e-3, seed: int = 0
    ) -> None:
        super().__init__(structure)
        self._shrink, self._noise = shrink, noise
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def step_done(self, task: Task) -> None:
        """Shrink and perturb."""
        for layer in self.structure.model.modules():
            own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
            matrices = [p for p in own if p.dim() > 1]
            for parameter in own if matrices else ():
                fan_in = matrices[0][0].numel()
                drawn = torch.randn(parameter.shape, generator=self.generator).to(parameter)
                size = self._noise / (3 * fan_in) ** 0.5
                parameter.mul_(1 - self._shrink).add_(drawn, alpha=size)


class UPGD(Method):
    """Utility-based perturbed gradient descent: useful weights move less, useless ones are shaken.

    Elsayed and Mahmood, "Addressing loss of plasticity and catastrophic forgetting in continual
    learning" (ICLR 2024, arXiv 2404.00781), Eqs. 3 to 5 with global scaling:

        u ← β u + (1 − β)(−g θ),  ū = sigmoid(û / max û),  g ← (g + σ ε)(1 − ū)

    where û is u corrected for its start at zero.

    Differs from the paper: the gradient that the optimizer is given is changed, which is the
    paper's update for SGD without momentum only.

    Args:
        structure: The network.
        noise: σ, the size of the noise.
        decay: β.
        seed: Of the noise.
    """

    SAVED = ("generator", "utility", "steps")

    def __init__(
        self, structure: Structure, *, noise: float = 1e-3, decay: float = 0.999, seed: int = 0
    ) -> None:
        super().__init__(structure)
        self._noise, self._decay = noise, decay
        self.generator = torch.Generator().manual_seed(seed)
        self.steps = 0
        self.utility = {
            name: torch.zeros_like(parameter, requires_grad=False)
            for name, parameter in _trained(structure.model)
        }

    @torch.no_grad()
    def penalty_grad_(self) -> Tensor:
        """Change the gradients by the utility of each weight; the penalty is 0."""
        self.steps += 1
        moved = [
            (name, parameter, parameter.grad)
            for name, parameter in _trained(self.structure.model)
            if parameter.grad is not None
        ]
        for name, parameter, gradient in moved:
            held = self.utility[name] = self.utility[name].to(parameter.device)
            held.mul_(self._decay).sub_(gradient * parameter, alpha=1 - self._decay)
        corrected = 1 - self._decay**self.steps
        largest = max((float(self.utility[n].max()) for n, *_ in moved), default=0.0) / corrected
        for name, parameter, gradient in moved:
            scaled = self.utility[name] / corrected / max(largest, 1e-12)
            drawn = torch.randn(parameter.shape, generator=self.generator).to(parameter)
            gradient.add_(drawn, alpha=self._noise).mul_(1 - torch.sigmoid(scaled))
        return torch.zeros(())


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that are trained, with their names."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
