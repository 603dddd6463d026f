"""Baselines without training: the class scores of a context answer."""

from typing import Protocol

from torch import Tensor

from growmas.contexts import (
    Context,
    GaussianContext,
    RidgeContext,
    SharedGaussianContext,
)
from growmas.contexts.density import Component
from growmas.contexts.freezing import extract_state
from growmas.contexts.projection import Extract
from growmas.data import Split, Stream, Task, batches
from growmas.structure import Structure
from growmas.training.methods.method import IMPORTANCE_BATCH, Method
from growmas.training.methods.own_state import numbers_in
from growmas.training.methods.random_features import RandomFeatures
from growmas.training.methods.settings import above, check_settings, whole

STRENGTHS = tuple(10 ** (power / 2) for power in range(-16, 9))
"""Strengths that RanPAC tries, 1e-8 to 1e4, as its weights are of random features."""


class ClassContext(Context, Protocol):
    """Context that scores the classes of each task."""

    @property
    def components(self) -> tuple[Component, ...]:
        """Task and label of each component."""
        ...

    def class_scores(self, inputs: Tensor) -> Tensor:
        """Return the log-probability of each component, [N, M]."""
        ...


class Classifier(Method):
    """Predicts by the class scores of a context, in one pass over the data.

    The network is not trained. The label is the one whose probabilities, summed over the tasks
    that a sample may be of, are largest.

    Args:
        structure: The network, for a context whose features it computes.
        context: Scores the classes of each task.
        stream: Its heads tell how many labels there are.
    """

    context: ClassContext

    def __init__(self, structure: Structure, context: ClassContext, stream: Stream) -> None:
        super().__init__(structure, context=context)
        self._width = max(stream.head_sizes)

    @property
    def parameters(self) -> int:
        """Always 0; the numbers of the statistics belong to the context."""
        return 0

    @property
    def numbers_kept(self) -> int:
        """Numbers of the statistics, of what makes the features, and of a network among these."""
        extract = getattr(self.context, "extract", None)
        return super().numbers_kept + numbers_in(extract_state(extract))

    def lesson(self, task: Task) -> Split | None:
        """Return None: there is nothing to train."""
        return None

    def end_task(self, task: Task) -> None:
        """Add the task's classes to the statistics."""
        for inputs, labels in batches(task.train, IMPORTANCE_BATCH):
            self.context.update(task.name, inputs, labels)

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Return the likeliest label, over the classes of all tasks where the task is unknown."""
        components = self.context.components
        if len(components) == 1:  # a single class, from which a linear context tells nothing apart
            return inputs.new_full((len(inputs),), components[0][1] or 0).long()
        scores = self.context.class_scores(inputs)
        found = scores.new_full((len(scores), self._width), -float("inf"))
        for column, (name, label) in zip(scores.unbind(1), components, strict=True):
            if task is None or name == task.name:
                found[:, label] = found[:, label].logaddexp(column)
        return found.argmax(1).to(inputs.device)


class GaussianClasses(Classifier):
    """Predicts by the Gaussians of a context, one for every class of every task."""

    context: GaussianContext


class SLDA(Classifier):
    """Streaming linear discriminant analysis: Gaussians of the classes with one covariance.

    Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis",
    CVPR Workshops 2020. With the class means m_c, and Σ the covariance within classes:

        Λ = [(1 − ε) Σ + ε I]⁻¹    score_c = (Λ m_c)ᵀ z − ½ m_cᵀ Λ m_c

    Differs from the paper: the sums are exact instead of running; ε is relative to the mean
    variance, (1 − ε) Σ + ε tr(Σ)/D · I; a class also weighs as its share of the samples, by its
    logarithm; a class of another task is another class, also where labels are shared.

    Args:
        structure: The network; it is not trained.
        stream: Its heads tell how many labels there are.
        extract: Inputs -> features z; None takes the inputs as they are.
        strength: ε; None chooses it by generalised cross-validation, see `RidgeContext`.
    """

    context: SharedGaussianContext

    def __init__(
        self,
        structure: Structure,
        *,
        stream: Stream,
        extract: Extract | None = None,
        strength: float | None = 1e-4,
    ) -> None:
        check_settings(strength=above(strength, most=1, none=True))
        context = SharedGaussianContext(extract=extract, strength=strength)
        super().__init__(structure, context, stream)


class RanPAC(Classifier):
    """A ridge on random features of pretrained or fixed features.

    McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning",
    NeurIPS 2023. With features f, a fixed random matrix W of normal numbers and h = relu(Wᵀ f):

        G = Σ h hᵀ, C = Σ h yᵀ    score = hᵀ (G + λI)⁻¹ C

    Differs from the paper: no first-session tuning of the network; the features h and the labels
    are centred; λ is relative to the mean variance of h, and None chooses it by generalised
    cross-validation from the sums instead of on a fifth of each task's samples; 2,000 random
    features by default instead of 10,000.

    Args:
        structure: The network; it is not trained.
        stream: Its heads tell how many labels there are.
        extract: Inputs -> features f; None takes the inputs as they are.
        projections: Number of random features.
        strength: λ; None for generalised cross-validation.
        seed: Of W.
    """

    context: RidgeContext

    def __init__(
        self,
        structure: Structure,
        *,
        stream: Stream,
        extract: Extract | None = None,
        projections: int = 2000,
        strength: float | None = None,
        seed: int = 0,
    ) -> None:
        check_settings(
            projections=whole(projections, least=2),
            strength=above(strength, none=True),
        )
        features = RandomFeatures(projections, seed=seed, extract=extract)
        context = RidgeContext(extract=features, strength=strength, grid=STRENGTHS)
        super().__init__(structure, context, stream)
