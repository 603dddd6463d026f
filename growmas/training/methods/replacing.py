"""Methods that replace units of low utility: continual backprop and ReDo."""

from torch.optim import Optimizer

from growmas.data import Task
from growmas.plasticity import Plasticity, ReplacementSettings
from growmas.structure import Structure
from growmas.training.methods.method import Method


class Replacing(Method):
    """Fine-tuning in which units are replaced after steps of the optimizer.

    Attributes:
        plasticity: Chooses the units and replaces them.
    """

    SAVED = ("plasticity",)

    def __init__(
        self,
        structure: Structure,
        *,
        optimizer: Optimizer,
        settings: ReplacementSettings,
        warm_up: bool,
    ) -> None:
        super().__init__(structure)
        self.plasticity = Plasticity(structure, optimizer, settings, warm_up=warm_up)

    def step_done(self, task: Task) -> None:
        """Replace units of low utility."""
        self.plasticity.step()


class ContinualBackprop(Replacing):
    """Replace a small share of the mature units at every step, the least useful first.

    Dohare et al., "Loss of plasticity in deep continual learning" (Nature 632, 2024), Algorithm 1:
    the contribution utility is the decayed mean of |h| Σ|w_out|, a share `rate` of the units
    older than `maturity` is replaced per step, fractions add up, and a fresh unit has rows of the
    layer's default and columns of zero.

    Differs from the paper: the utility is measured every `every` steps; the mean activation of a
    replaced unit is not folded into the biases of the layers that read it.

    Args:
        structure: The network.
        optimizer: Of its parameters; the state of fresh entries is that of new ones.
        rate: Share of the mature units of a layer per step.
        maturity: Number of steps for which a unit is safe.
        decay: Of the utility.
        every: Number of steps from one measurement to the next.
        warm_up: True corrects Adam's updates of fresh entries by their own age, as the paper's
            optimizer does; False by the step of the tensor, as torch's optimizer would.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        optimizer: Optimizer,
        rate: float = 1e-4,
        maturity: int = 100,
        decay: float = 0.99,
        every: int = 1,
        warm_up: bool = True,
    ) -> None:
        settings = ReplacementSettings(
            rate=rate,
            maturity=maturity,
            utility="contribution",
            decay=decay,
            every=every,
            guard=None,
            init="zero_out",
        )
        super().__init__(structure, optimizer=optimizer, settings=settings, warm_up=warm_up)


class ReDo(Replacing):
    """Recycle dormant units: those whose mean activation is a small share of their layer's.

    Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning" (arXiv 2302.12902),
    Algorithm 1: every `every` steps, units with mean |h| at most `threshold` times the layer's mean
    on the batch get the rows of a new layer and columns of zero.

    Differs from the paper: the score is of the training batch, and the bias correction of Adam is
    that of new entries if `warm_up` is set.

    Args:
        structure: The network.
        optimizer: Of its parameters; moments of fresh entries are zero.
        threshold: τ.
        every: Number of steps from one check to the next.
        warm_up: True corrects Adam's updates of fresh entries by their own age.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        optimizer: Optimizer,
        threshold: float = 0.1,
        every: int = 1000,
        warm_up: bool = False,
    ) -> None:
        settings = ReplacementSettings(
            threshold=threshold,
            maturity=0,
            utility="activation",
            decay=0.0,
            every=every,
            guard=None,
            init="zero_out",
        )
        super().__init__(structure, optimizer=optimizer, settings=settings, warm_up=warm_up)
