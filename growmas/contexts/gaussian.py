"""Tasks told apart by the mean and the covariance of their inputs."""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from growmas.contexts.context import (
    UNKNOWN,
    Answers,
    Context,
    TaskKey,
    check_kind,
    check_task,
    check_tasks,
    likeliest,
)
from growmas.contexts.density import Component
from growmas.contexts.mixture import Mixture
from growmas.contexts.distances import DistanceHistogram
from growmas.contexts.projection import Extract, Projection
from growmas.errors import ContextError, DataError
from growmas.moments import Moments

Per = Literal["task", "class"]


class GaussianContext(Context):
    """A Gaussian of a fixed random projection of the inputs for every task, or for every class.

    Per component (N samples in D dimensions, M components) it keeps count, mean and scatter,
    D + D² float64 numbers; no sample is stored, one pass is enough, and neither the order of the
    samples nor how they are cut into batches matters. The covariance is shrunk towards a sphere,
    Σ' = (1 − s) Σ + s v I, with v the mean variance (tr Σ / D) of the components of its task, so
    that a class that varies little is shrunk as much as the others. All tasks are equally likely
    beforehand, classes of a task as often as they were seen. A component without any spread, such
    as a single sample, gets a sphere with the mean variance of all others, or 1.

    Per class it needs labels and is a classifier by itself, see `class_scores`: report it beside
    any network that it selects views for.

    Example:
        >>> import torch, growmas
        >>> context = growmas.GaussianContext()
        >>> low, high = torch.rand(64, 8), torch.rand(64, 8) + 2
        >>> context.update("low", low)
        >>> context.update("high", high)
        >>> context.tasks, context.select(torch.cat([high[:2], low[:1]]))
        (('low', 'high'), tensor([1, 1, 0]))

    Attributes:
        threshold: Where inputs become unlike all, see the constructor; it may be changed.
    """

    def __init__(
        self,
        features: int = 100,
        per: Per = "task",
        *,
        shrinkage: float = 0.1,
        seed: int = 0,
        extract: Extract | None = None,
        threshold: float | None = None,
    ) -> None:
        """Prepare for tasks to come.

        Args:
            features: D, dimensions of the random projection; inputs with fewer are used as they
                are.
            per: A Gaussian for each "task", or for each "class" of each task.
            shrinkage: s in 0 … 1. At 0 every component needs more samples than dimensions.
            seed: Of the projection; contexts that are to be merged need the same.
            extract: Inputs -> features [N, F]; None flattens the inputs, which must then be one
                tensor. A function of a network that learns on makes old statistics stale.
            threshold: Between 0 and 1: inputs are unlike all where their `novelty` reaches it,
                which happens to known inputs with a probability of 1 − threshold once `calibrate`
                was called. 0.99 is a good one. None: never.

        Raises:
            ContextError: A setting is out of range; every one is listed.
        """
        _check_settings(features, per, shrinkage, threshold, seed, extract)
        self.threshold = threshold
        self._per = per
        self._projection = Projection(features, seed, extract)
        self._mixture = Mixture(shrinkage)
        self._distances = DistanceHistogram()

    @property
    def tasks(self) -> tuple[TaskKey, ...]:
        """The T tasks seen, in the order of their first `update`."""
        return self._mixture.tasks

    @property
    def components(self) -> tuple[Component, ...]:
        """Task and label of each of the M Gaussians: tasks as in `tasks`, labels in order."""
        return self._mixture.components

    @property
    def size(self) -> int:
        """Distinct numbers kept of the tasks: count, mean and symmetric scatter of M Gaussians."""
        wide = self._dimensions
        return len(self.components) * (1 + wide + wide * (wide + 1) // 2)

    def update(self, task: TaskKey, inputs: Any, labels: Tensor | None = None) -> None:
        """Add samples of a task to its statistics; an empty batch changes nothing.

        Args:
            task: Its name or index; it may come back at any time.
            inputs: N samples.
            labels: Whole numbers [N] from 0 on, local to the task; used per class only.

        Raises:
            ContextError: Labels are missing, or the task is no name and no index.
            DataError: The features are not finite floats or of another size than before, or the
                labels do not fit. Nothing was added then.
        """
        check_task(task)
        features = self._projection.features(inputs)
        parts = self._parts(features, labels)
        if not len(features):
            return
        self._projection.fix(features.shape[1])
        rows = self._projection.rows(features)
        for label, chosen in parts:
            part = rows[chosen.to(rows.device)]
            self._mixture.add((task, label), Moments.of(part[None], part.shape[1]))

    def merge(self, other: "GaussianContext") -> None:
        """Add what another one, with the same settings, saw: of other tasks, or of the same.

        Tasks that are new here come after those that are not.

        Raises:
            ContextError: The settings or the size of the inputs differ, or it is no such context.
        """
        if not isinstance(other, GaussianContext):
            raise ContextError(f"expected a GaussianContext, got {type(other).__name__}")
        self._check_same(other._settings(), "the other context")
        self._projection.adopt(other._projection)
        self._mixture.merge(other._mixture)
        self._distances.counts = self._distances.counts + other._distances.counts

    def calibrate(self, inputs: Any) -> None:
        """Measure how far known inputs lie, so that `threshold` keeps its promise.

        Call it after the last `update` of a task, with samples of it that were held out: those
        learnt from lie nearer than new ones will. Tasks that come later only make the promise
        safer. Adds up over calls, and is kept over tasks: give of each as many as will come.
        Labels are not needed.

        Raises:
            ContextError: No task was seen yet.
            DataError: See `update`.
        """
        self._distances.add(self._least(self._squared(inputs)))

    def novelty(self, inputs: Any) -> Tensor:
        """How unlike all tasks the inputs are, [N] in 0 … 1: the share of known inputs nearer.

        Nearness is the least squared Mahalanobis distance to a component. Once `calibrate` was
        called, the share is one of what it measured. Before, it is the χ² distribution with D
        degrees of freedom, what distances would follow if inputs were Gaussian: real ones lie
        farther out (3 to 4% of MNIST beyond its 99%, experiments/contexts).

        Raises:
            ContextError: No task was seen yet.
            DataError: See `update`.
        """
        return self._novelty(self._squared(inputs))

    def log_likelihood(self, inputs: Any) -> Tensor:
        """Log-density of the projected inputs under each of the `components`, [N, M] float64.

        Raises:
            ContextError: No task was seen yet, or a covariance is singular.
            DataError: See `update`.
        """
        return self._mixture.log_likelihood(self._squared(inputs))

    def class_scores(self, inputs: Any) -> Tensor:
        """Log-probability of each of the `components`, (task, label), [N, M] float64.

        Raises:
            ContextError: There is one Gaussian a task, or see `log_likelihood`.
            DataError: See `update`.
        """
        if self._per != "class":
            raise ContextError(
                "class_scores needs a Gaussian for each class: GaussianContext(per='class')"
            )
        return self._mixture.joint(self._squared(inputs)).log_softmax(1)

    def class_answers(self, inputs: Any, *, temperature: float = 1.0) -> Answers:
        """Position of a task -> log p(class | x, task), [N, C_t] float64, for `combine_views`.

        C_t is the largest label of the task plus one; a label that was never seen gets −∞.

        Args:
            inputs: N samples.
            temperature: Log-probabilities are divided by it and normalised again. Gaussians of
                many dimensions are surer than they are right; above 1 they leave a view more say.

        Raises:
            ContextError: The temperature is not above 0, or see `class_scores`.
            DataError: See `update`.
        """
        if not _is_number(temperature) or not 0 < temperature < math.inf:
            raise ContextError(f"temperature must be a finite number above 0, got {temperature}")
        scores, components = self.class_scores(inputs), self.components

        def answers(position: int) -> Tensor:
            wanted = self.tasks[position]
            own = [i for i, (task, _) in enumerate(components) if task == wanted]
            labels = [components[i][1] or 0 for i in own]
            found = scores.new_full((len(scores), max(labels) + 1), -math.inf)
            found[:, labels] = (scores[:, own] / temperature).log_softmax(1)
            return found

        return answers

    def scores(self, inputs: Any, answers: Answers | None = None) -> Tensor:
        """Log-probability of every task, [N, T] float64; `answers` are not looked at.

        Raises:
            ContextError: See `log_likelihood`.
            DataError: See `update`.
        """
        return self._mixture.scores(self._squared(inputs))

    def select(
        self, inputs: Any, answers: Answers | None = None, *, together: bool = False
    ) -> Tensor:
        """The likeliest task of each sample, int64 [N]: positions in `tasks`, or `UNKNOWN`.

        With a threshold, a sample is unlike all where its `novelty` reaches it, and a batch that
        comes together where that of more than half of its samples is.

        Args:
            inputs: N samples.
            answers: Not looked at.
            together: All samples come from one task and get the same answer.

        Raises:
            ContextError: See `log_likelihood`; or the threshold is out of range, or `calibrate`
                had too few samples for it.
            DataError: See `update`.
        """
        squared = self._squared(inputs)
        chosen = likeliest(self._mixture.scores(squared), together=together)
        if self.threshold is None:
            return chosen
        self._check_threshold(self.threshold)
        unlike = self._novelty(squared) >= self.threshold
        if together:
            unlike = (unlike.sum() * 2 > len(unlike)).expand(len(unlike))
        return torch.where(unlike, UNKNOWN, chosen)

    def state_dict(self) -> dict[str, Any]:
        """Settings, projection and statistics, on the CPU; `extract` is not among them."""
        return {
            "kind": type(self).__name__,
            "settings": self._settings(),
            "matrix": self._projection.matrix,
            "tasks": list(self.tasks),
            "components": self._mixture.state(),
            "distances": self._distances.counts.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; the threshold stays.

        Raises:
            ContextError: It is of another kind of context or of other settings, or not whole.
        """
        check_kind(self, state, ["settings", "matrix", "tasks", "components", "distances"])
        self._check_same(state["settings"], "the state")
        self._mixture.restore(state["tasks"], state["components"])
        self._projection.size = state["settings"]["size"]
        self._projection.matrix = state["matrix"]
        self._distances.counts = state["distances"].clone()

    def _parts(self, features: Tensor, labels: Tensor | None) -> list[tuple[int | None, Tensor]]:
        """Label -> which samples have it."""
        if self._per == "task":
            return [(None, torch.ones(len(features), dtype=torch.bool))]
        if labels is None:
            raise ContextError(
                "GaussianContext(per='class') needs labels: update(task, inputs, labels), or "
                "per='task' for unlabelled data"
            )
        _check_labels(labels, len(features))
        return [(label, labels == label) for label in sorted(set(labels.tolist()))]

    def _settings(self) -> dict[str, Any]:
        """What statistics depend on."""
        return {
            "features": self._projection.width,
            "per": self._per,
            "shrinkage": self._mixture.shrinkage,
            "seed": self._projection.seed,
            "size": self._projection.size,
        }

    def _check_same(self, theirs: Mapping[str, Any], what: str) -> None:
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

    def _check_threshold(self, threshold: float) -> None:
        _refuse(_threshold_faults(threshold))
        total = self._distances.total
        if total and total / (total + 1) < threshold:
            raise ContextError(
                f"threshold={threshold} cannot be told from {total} calibrated samples, it needs "
                f"{math.ceil(threshold / (1 - threshold) - 1e-9)}: calibrate with more, or lower it"
            )

    def _squared(self, inputs: Any) -> Tensor:
        """Squared Mahalanobis distance to every component, [N, M]."""
        check_tasks(self)
        rows = self._projection.rows(self._projection.features(inputs))
        return self._mixture.squared(rows)

    def _least(self, squared: Tensor) -> Tensor:
        """Squared distance to the nearest component, per dimension, [N]."""
        return squared.amin(1) / self._dimensions

    def _novelty(self, squared: Tensor) -> Tensor:
        if self._distances.total:
            return self._distances.nearer(self._least(squared))
        half = squared.new_tensor(self._dimensions / 2)
        share: Tensor = torch.special.gammainc(half, squared.amin(1) / 2)
        return share

    @property
    def _dimensions(self) -> int:
        return min(self._projection.width, self._projection.size)


def _check_settings(
    features: object,
    per: object,
    shrinkage: Any,
    threshold: Any,
    seed: object,
    extract: object,
) -> None:
    kinds = get_args(Per)
    checks = {
        f"features must be a positive whole number, got {features!r}": (
            type(features) is int and features >= 1
        ),
        f"per must be one of {', '.join(map(repr, kinds))}, got {per!r}": per in kinds,
        f"shrinkage must lie in 0 … 1, got {shrinkage!r}": (
            _is_number(shrinkage) and 0 <= shrinkage <= 1
        ),
        f"seed must be a whole number, got {seed!r}": type(seed) is int,
        f"extract must be a function, or None, got {extract!r}": extract is None
        or callable(extract),
    }
    faults = [fault for fault, fine in checks.items() if not fine]
    _refuse([*faults, *_threshold_faults(threshold)])


def _threshold_faults(threshold: Any) -> list[str]:
    if threshold is None or (_is_number(threshold) and 0 < threshold < 1):
        return []
    return [f"threshold must lie between 0 and 1, or be None, got {threshold!r}"]


def _refuse(faults: list[str]) -> None:
    if faults:
        raise ContextError("\n".join(faults))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_labels(labels: object, samples: int) -> None:
    if not isinstance(labels, Tensor):
        raise DataError(f"labels must be a tensor [N], got {type(labels).__name__}")
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    if labels.shape != (samples,) or not whole:
        raise DataError(
            f"labels must be whole numbers, one for each of the {samples} samples, got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    if samples and int(labels.min()) < 0:
        raise DataError(f"labels must be 0 or more, got {int(labels.min())}: number classes from 0")
