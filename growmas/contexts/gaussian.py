"""The Gaussian context: tasks separated by the mean and covariance of their inputs."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor, nn

from growmas.contexts.components import owners, task_answers
from growmas.contexts.context import (
    Answers,
    Context,
    TaskKey,
    check_kind,
    check_other,
    check_task,
    check_tasks,
    likeliest,
)
from growmas.contexts.density import Component
from growmas.contexts.distances import DistanceHistogram
from growmas.contexts.freezing import adopt_extract, extract_state
from growmas.contexts.mixture import Mixture
from growmas.contexts.network_features import NetworkFeatures
from growmas.contexts.outliers import check_measurable, share_nearer, without_outliers
from growmas.contexts.projection import Extract, Projection
from growmas.contexts.settings import check_settings, threshold_setting
from growmas.errors import ContextError
from growmas.moments import Moments
from growmas.settings import is_number, is_whole

Per = Literal["task", "class"]


class GaussianContext(Context):
    """Model the inputs of every task, or of every class, by a Gaussian of a random projection.

    For each of M components, of N samples in D dimensions, it keeps count, mean and scatter:
    D + D² float64 numbers. No sample is stored and one pass is enough; the order of the samples
    and the size of the batches do not matter. The covariance is shrunk towards a sphere,
    Σ' = (1 − s) Σ + s v I, where v is the mean variance (tr Σ / D) of the components of the task,
    so that a class that varies little is shrunk as much as the others. All tasks have the same
    prior probability; the classes of a task have the frequencies with which they were seen. A
    component without any spread, such as a single sample, gets a sphere with the mean variance
    of all others, or 1. Of tasks with equal scores, the one that was seen first is taken.

    With per="class" it needs labels and is a classifier by itself, see `class_scores`: report its
    accuracy next to that of any network whose views it selects.

    Example:
        >>> import torch, growmas
        >>> context = growmas.GaussianContext()
        >>> low, high = torch.rand(64, 8), torch.rand(64, 8) + 2
        >>> context.update("low", low)
        >>> context.update("high", high)
        >>> context.tasks, context.select(torch.cat([high[:2], low[:1]]))
        (('low', 'high'), tensor([1, 1, 0]))

    Attributes:
        threshold: Novelty from which on inputs are `UNKNOWN`, see the constructor; it may be
            changed at any time.
    """

    def __init__(
        self,
        features: int = 100,
        per: Per = "task",
        *,
        shrinkage: float = 0.1,
        seed: int = 0,
        extract: Extract | nn.Module | None = None,
        threshold: float | None = None,
    ) -> None:
        """Prepare for the first task.

        Args:
            features: D, the dimensions of the random projection; inputs with fewer dimensions
                are not projected.
            per: A Gaussian for each "task", or for each "class" of each task.
            shrinkage: s in 0 … 1. At 0 every component needs more samples than dimensions.
            seed: Seed of the projection; contexts that are to be merged need the same seed.
            extract: Inputs -> features [N, F], such as `RandomFilters`, or a frozen network; None
                flattens the inputs, which must then be one tensor. If it uses a network that
                continues to learn, old statistics become stale.
            threshold: Between 0 and 1: inputs are `UNKNOWN` where their `novelty` reaches it,
                which happens to known inputs with probability 1 − threshold once `calibrate` was
                called. 0.99 is a good value. None: never.

        Raises:
            ContextError: A setting is out of range; every one is listed.
        """
        check_settings(
            features=(features, is_whole(features, 1), "a whole number >= 1"),
            per=(per, per in get_args(Per), f"one of {', '.join(map(repr, get_args(Per)))}"),
            shrinkage=(
                shrinkage,
                is_number(shrinkage) and 0 <= shrinkage <= 1,
                "a number in 0 … 1",
            ),
            seed=(seed, is_whole(seed), "a whole number"),
            extract=(
                extract,
                extract is None or callable(extract),
                "a function of the inputs, or None",
            ),
            threshold=threshold_setting(threshold),
        )
        self.threshold = threshold
        self._per = per
        if isinstance(extract, nn.Module):
            extract = NetworkFeatures(extract)
        self._projection = Projection(features, seed, extract)
        self._mixture = Mixture(shrinkage)
        self._distances = DistanceHistogram()

    def __repr__(self) -> str:
        projection, mixture = self._projection, self._mixture
        settings = f"{projection.width}, {self._per!r}, shrinkage={mixture.shrinkage:g}"
        tasks, gaussians = len(self.tasks), len(self.components)
        return (
            f"{type(self).__name__}({settings}; {tasks} task{'' if tasks == 1 else 's'}, "
            f"{gaussians} Gaussian{'' if gaussians == 1 else 's'})"
        )

    @property
    def tasks(self) -> tuple[TaskKey, ...]:
        """The T tasks seen, in the order of their first `update`."""
        return self._mixture.tasks

    @property
    def components(self) -> tuple[Component, ...]:
        """Task and label of each of the M Gaussians: in the order of `tasks`, labels sorted."""
        return self._mixture.components

    @property
    def size(self) -> int:
        """Distinct numbers stored: count, mean and symmetric scatter of M Gaussians."""
        wide = self._dimensions
        return len(self.components) * (1 + wide + wide * (wide + 1) // 2)

    def update(self, task: TaskKey, inputs: Any, labels: Tensor | None = None) -> None:
        """Add samples of a task to its statistics; an empty batch changes nothing.

        Args:
            task: Its name or index; it may come back at any time.
            inputs: N samples.
            labels: Whole numbers [N] from 0 on, local to the task; used with per="class" only.

        Raises:
            ContextError: Labels are missing, or `task` is neither a name nor an index.
            DataError: The features are not finite floats or have another size than before, or the
                labels do not fit. Nothing is added then.
        """
        check_task(task)
        features = self._projection.features(inputs)
        parts = owners(self._per, task, labels, len(features))
        if not len(features):
            return
        self._projection.fix(features.shape[1])
        rows = self._projection.rows(features)
        for component, chosen in parts:
            part = rows[chosen.to(rows.device)]
            self._mixture.add(component, Moments.of(part[None], part.shape[1]))

    def merge(self, other: "GaussianContext") -> None:
        """Add the statistics of another context with the same settings.

        It may have seen other tasks or the same ones; tasks that are new here come last.

        Raises:
            ContextError: The settings or the size of the inputs differ, or `other` is not a
                `GaussianContext`, or is this context itself.
        """
        check_other(self, other, GaussianContext)
        self._check_same(other._settings(), "the other context")
        extract = self._projection.extract
        adopt_extract(extract, extract_state(other._projection.extract), "the other context")
        self._projection.adopt(other._projection)
        self._mixture.merge(other._mixture)
        self._distances.counts = self._distances.counts + other._distances.counts

    def calibrate(self, inputs: Any) -> None:
        """Measure the distances of known inputs, so that `threshold` has its stated meaning.

        Call it after the last `update` of a task, with held-out samples of it: samples that were
        learnt from lie nearer than new ones. Later tasks only make false refusals rarer. Calls
        add up, also over tasks: give samples of each task in the proportion in which they will
        occur. Labels are not needed.

        Raises:
            ContextError: No task was seen yet.
            DataError: The features are not finite floats or have another size than before.
        """
        self._distances.add(self._least(self._squared(inputs)))

    def novelty(self, inputs: Any) -> Tensor:
        """Return how unlike all tasks the inputs are, [N] in 0 … 1.

        This is the share of known inputs that lie nearer. The distance is the smallest squared
        Mahalanobis distance to a component. Once `calibrate` was called, the share is over the
        distances that it measured. Before, it comes from the χ² distribution with D degrees of
        freedom, which Gaussian inputs would follow; real inputs lie farther out (3 to 4% of MNIST
        beyond its 99% quantile, experiments/contexts).

        Raises:
            ContextError: No task was seen yet.
            DataError: The features are not finite floats or have another size than before.
        """
        return self._novelty(self._squared(inputs))

    def log_likelihood(self, inputs: Any) -> Tensor:
        """Return the log-density of the projected inputs under each component, [N, M] float64.

        Raises:
            ContextError: No task was seen yet, or a covariance is singular.
            DataError: The features are not finite floats or have another size than before.
        """
        return self._mixture.log_likelihood(self._squared(inputs))

    def class_scores(self, inputs: Any) -> Tensor:
        """Return the log-probability of each component, (task, label), [N, M] float64.

        Raises:
            ContextError: There is one Gaussian per task, no task was seen yet, or a covariance is
                singular.
            DataError: The features are not finite floats or have another size than before.
        """
        if self._per != "class":
            raise ContextError(
                "class_scores needs a Gaussian for each class: GaussianContext(per='class')"
            )
        return self._mixture.joint(self._squared(inputs)).log_softmax(1)

    def class_answers(self, inputs: Any, *, temperature: float = 1.0) -> Answers:
        """Return a function: position of a task -> log p(class | x, task), for `combine_views`.

        It returns [N, C_t] float64. C_t is the largest label of the task plus one; a label that
        was never seen gets −∞.

        Args:
            inputs: N samples.
            temperature: Log-probabilities are divided by it and normalised again. Gaussians of
                many dimensions are overconfident; a value above 1 gives the view more weight.

        Raises:
            ContextError: The temperature is not above 0, there is one Gaussian per task, no task
                was seen yet, or a covariance is singular.
            DataError: The features are not finite floats or have another size than before.
        """
        fits = is_number(temperature) and temperature > 0
        check_settings(temperature=(temperature, fits, "a finite number > 0"))
        return task_answers(self.class_scores(inputs) / temperature, self.components, self.tasks)

    def scores(self, inputs: Any, answers: Answers | None = None) -> Tensor:
        """Return the log-probability of every task, [N, T] float64; `answers` is not used.

        Raises:
            ContextError: No task was seen yet, or a covariance is singular.
            DataError: The features are not finite floats or have another size than before.
        """
        return self._mixture.scores(self._squared(inputs))

    def select(
        self, inputs: Any, answers: Answers | None = None, *, together: bool = False
    ) -> Tensor:
        """Return the likeliest task of each sample, int64 [N]: positions in `tasks`, or `UNKNOWN`.

        Of tasks with equal scores, the one that was seen first is taken. With a threshold, a
        sample is `UNKNOWN` where its `novelty` reaches it, and samples that come together where
        that of more than half of them does.

        Args:
            inputs: N samples.
            answers: Not used.
            together: All samples come from one task and get the same answer.

        Raises:
            ContextError: No task was seen yet, a covariance is singular, the threshold is out of
                range, or `calibrate` had too few samples for it.
            DataError: The features are not finite floats or have another size than before.
        """
        squared = self._squared(inputs)
        chosen = likeliest(self._mixture.scores(squared), together=together)
        if self.threshold is None:
            return chosen
        check_measurable(self.threshold, self._distances)
        return without_outliers(chosen, self._novelty(squared), self.threshold, together=together)

    def state_dict(self) -> dict[str, Any]:
        """Return settings, projection and statistics, on the CPU, and what `extract` froze."""
        return {
            "kind": type(self).__name__,
            "settings": self._settings(),
            "extract": extract_state(self._projection.extract),
            "matrix": self._projection.matrix,
            "tasks": list(self.tasks),
            "components": self._mixture.state(),
            "distances": self._distances.counts.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned; the threshold stays.

        Raises:
            ContextError: The state is of another kind of context or of other settings, or it is
                incomplete.
        """
        check_kind(self, state, ["settings", "matrix", "tasks", "components", "distances"])
        self._check_same(state["settings"], "the state")
        if state.get("extract") is not None:  # older states have none
            adopt_extract(self._projection.extract, state["extract"], "the state")
        self._mixture.restore(state["tasks"], state["components"])
        self._projection.size = state["settings"]["size"]
        self._projection.matrix = state["matrix"]
        self._distances.counts = state["distances"].clone()

    def _settings(self) -> dict[str, Any]:
        """Return the settings that the statistics depend on."""
        return {
            "features": self._projection.width,
            "per": self._per,
            "shrinkage": self._mixture.shrinkage,
            "seed": self._projection.seed,
            "size": self._projection.size,
        }

    def _check_same(self, theirs: Mapping[str, Any], what: str) -> None:
        """Refuse statistics of other settings; size 0 stands for a size not known yet."""
        wrong = [
            f"{name} {theirs[name]!r} instead of {ours!r}"
            for name, ours in self._settings().items()
            if ours != theirs[name] and not (name == "size" and 0 in (ours, theirs[name]))
        ]
        if wrong:
            raise ContextError(
                f"{what} has {', '.join(wrong)}: make both with the same settings, for inputs of "
                "the same size"
            )

    def _squared(self, inputs: Any) -> Tensor:
        """Return the squared Mahalanobis distance to every component, [N, M]."""
        check_tasks(self)
        rows = self._projection.rows(self._projection.features(inputs))
        return self._mixture.squared(rows)

    def _least(self, squared: Tensor) -> Tensor:
        """Return the squared distance to the nearest component, per dimension, [N]."""
        return squared.amin(1) / self._dimensions

    def _novelty(self, squared: Tensor) -> Tensor:
        """Return the novelty of inputs at these squared distances [N, M], [N]."""
        return share_nearer(self._distances, squared, self._dimensions)

    @property
    def _dimensions(self) -> int:
        """Number of dimensions D after the projection."""
        return min(self._projection.width, self._projection.size)
