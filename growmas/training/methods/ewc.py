"""Elastic weight consolidation, and its online variant."""

from typing import Literal, get_args

import torch
from torch import Tensor

from growmas.data import Task
from growmas.penalty import MAS
from growmas.structure import Structure
from growmas.training.methods.fisher import Target, task_fisher
from growmas.training.methods.method import Method
from growmas.training.methods.settings import above, check_settings, number, word


class EWC(Method):
    """Keep parameters that earlier tasks' likelihoods depend on near their old values.

    Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, Eq. 3,
    with a term for each earlier task t:

        L(θ) + Σ_t λ/2 Σ_i F_t,i (θ_i − θ*_t,i)²

    F_t is the diagonal of the Fisher information on all training samples of task t, from squared
    gradients of single samples (`fisher_information`). A sum of quadratic terms is one quadratic:
    Ω = Σ_t F_t about the weighted mean Σ_t F_t θ*_t / Ω, plus a constant. So it keeps two numbers
    per parameter for any number of tasks, and its gradient is that of the sum above.

    Differs from the paper: nothing but this way of storing it. Many implementations square the
    gradient of a batch's mean, which makes F about as many times smaller as a batch is large, and
    λ as many times larger.

    Args:
        structure: The network.
        strength: λ.
        fisher: Labels of the expectation: "model", its own answers, as the Fisher information is
            defined; "label", those of the data (the empirical Fisher); "sample", one drawn from
            its answers.

    Attributes:
        mas: Ω and the weighted mean of the θ*, whose penalty is λ/2 Ω (θ − mean)².
    """

    mas: MAS
    SAVED = ("_constant",)

    def __init__(
        self, structure: Structure, *, strength: float = 100.0, fisher: Target = "model"
    ) -> None:
        check_settings(strength=number(strength, least=0), fisher=word(fisher, get_args(Target)))
        super().__init__(structure)
        self.mas = MAS(structure.model, strength=strength / 2)
        self._strength = strength
        self._fisher = fisher
        self._constant: Tensor = torch.zeros((), dtype=torch.float64)

    def penalty_grad_(self) -> Tensor:
        """Add the penalty's gradient to the task's, and return Σ_t λ/2 F_t (θ − θ*_t)²."""
        value = self.mas.penalty_grad_()
        return value + self._constant.to(value)

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        """Add the term of the task."""
        mas, before = self.mas, dict(self.mas.anchor)
        omega = {name: each.clone() for name, each in mas.omega.items()}
        fisher = task_fisher(self.structure, task, self._fisher)
        mas.consolidate(fisher)
        for name, old in omega.items():
            here, total = mas.anchor[name], mas.omega[name]
            share = torch.where(total > 0, old / total.clamp(min=torch.finfo(total.dtype).tiny), 0)
            apart = before[name] - here
            mas.anchor[name] = here + share * apart
            # old (b − m)² + new (h − m)² of the mean m is old · new / (old + new) (b − h)²
            rest = (share * (total - old) * apart.square()).sum()
            self._constant = self._constant + self._strength / 2 * rest.double().cpu()


class OnlineEWC(Method):
    """Elastic weight consolidation with one running Fisher that forgets.

    Schwarz et al., "Progress & Compress: A scalable framework for continual learning", ICML 2018,
    in its part on online EWC:

        L(θ) + λ/2 Σ_i γ F*_i (θ_i − θ*_i)²        F* ← γ F* + F_t,  θ* ← θ  after task t

    Differs from the paper: the Fisher is the exact one on all training samples of the task, as in
    `EWC`, and it is not normalised unless `normalize` asks for it.

    Args:
        structure: The network.
        strength: λ.
        decay: γ, above 0 and at most 1.
        normalize: Divide each task's Fisher by its "mean" or "max", so that every task counts
            alike whatever the scale of its gradients; None leaves it as it is.
        fisher: See `EWC`.
    """

    mas: MAS

    def __init__(
        self,
        structure: Structure,
        *,
        strength: float = 100.0,
        decay: float = 0.95,
        normalize: Literal["mean", "max"] | None = None,
        fisher: Target = "model",
    ) -> None:
        check_settings(
            strength=number(strength, least=0),
            decay=above(decay, most=1),
            normalize=word(normalize, (None, "mean", "max")),
            fisher=word(fisher, get_args(Target)),
        )
        super().__init__(structure)
        self.mas = MAS(structure.model, strength=strength * decay / 2, normalize=normalize)
        self._decay = decay
        self._fisher = fisher

    def end_task(self, task: Task) -> None:
        """Fade the running Fisher, add that of the task, and move the anchors here."""
        fisher = task_fisher(self.structure, task, self._fisher)
        self.mas.omega = {name: self._decay * each for name, each in self.mas.omega.items()}
        self.mas.consolidate(fisher)
