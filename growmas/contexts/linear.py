"""Contexts that classify by a linear function of features, from statistics of one pass."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, get_args

from torch import Tensor, nn

from growmas.contexts.components import (
    known_components,
    owners,
    task_answers,
    task_scores,
)
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
from growmas.contexts.cross_validation import GRID, Choice
from growmas.contexts.density import Component
from growmas.contexts.distances import DistanceHistogram
from growmas.contexts.estimate import Estimate
from growmas.contexts.freezing import adopt_extract, extract_state
from growmas.contexts.gaussian import Per
from growmas.contexts.network_features import NetworkFeatures
from growmas.contexts.outliers import check_measurable, share_nearer, without_outliers
from growmas.contexts.projection import Extract, Projection
from growmas.contexts.settings import check_settings, threshold_setting
from growmas.contexts.statistics import ClassSums
from growmas.contexts.temperature import Calibration
from growmas.errors import ContextError
from growmas.settings import is_number


class LinearContext(Context):
    """Scores components by a linear function of features that one pass of sums determines.

    A component is a class of a task, or a task. N samples, D features, M components, T tasks.
    """

    _ESTIMATE: ClassVar[type[Estimate]]
    _TEMPERATURE: ClassVar[float]

    def __init__(
        self,
        per: Per = "class",
        *,
        extract: Extract | nn.Module | None = None,
        strength: float | None = None,
        grid: Sequence[float] = GRID,
        temperature: float | None = None,
        threshold: float | None = None,
    ) -> None:
        """Prepare for tasks to come.

        Args:
            per: Components are the "class"es of each task, or each "task" as a whole.
            extract: Inputs -> features [N, D], such as `RandomFilters`, or a frozen network; None
                flattens the inputs, which must then be one tensor. It must not change.
            strength: λ; None chooses it by generalised cross-validation whenever the context is
                asked after it saw new samples.
            grid: Strengths among which None chooses.
            temperature: Logits are divided by it; None takes the default until `calibrate` sets it.
            threshold: Between 0 and 1: inputs are unlike all where their `novelty` reaches it,
                which happens to known inputs with a probability of 1 − threshold once `calibrate`
                was called. None: never.

        Raises:
            ContextError: A setting is out of range; every one is listed.
        """
        _check_settings(per, extract, strength, grid, temperature, threshold)
        self.threshold = threshold
        self.extract = NetworkFeatures(extract) if isinstance(extract, nn.Module) else extract
        self._per = per
        self._strength = strength
        self._grid = tuple(grid)
        self._projection = Projection(sys.maxsize, 0, self.extract)
        self._sums = ClassSums()
        self._calibration = Calibration(temperature or self._TEMPERATURE)
        self._distances = DistanceHistogram()
        self._estimate: Estimate | None = None

    @property
    def tasks(self) -> tuple[TaskKey, ...]:
        """The T tasks seen, in the order of their first `update`."""
        return self._sums.tasks

    @property
    def components(self) -> tuple[Component, ...]:
        """Task and label of each of the M components: tasks as in `tasks`, labels in order."""
        return self._sums.components

    @property
    def size(self) -> int:
        """Distinct numbers kept: D(D + 1)/2 products, the reference, M sums and counts."""
        wide = self._projection.size
        return wide * (wide + 1) // 2 + wide + len(self.components) * (wide + 1)

    @property
    def strength(self) -> float:
        """λ as set, or as chosen for what was seen so far.

        Raises:
            ContextError: It was not set, and the context cannot be asked yet; see `class_scores`.
        """
        return self._estimated().strength if self._strength is None else self._strength

    @property
    def choice(self) -> Choice:
        """Estimated error of every λ of the grid, from the statistics alone, and the least.

        Raises:
            ContextError: See `class_scores`.
        """
        return self._estimated().choice

    @property
    def temperature(self) -> float:
        """Divisor of the logits: as calibrated, as set, or the default."""
        return self._calibration.temperature

    def update(self, task: TaskKey, inputs: Any, labels: Tensor | None = None) -> None:
        """Add samples of a task to the statistics; an empty batch changes nothing.

        Args:
            task: Its name or index; it may come back at any time.
            inputs: N samples.
            labels: Whole numbers [N] from 0 on, local to the task; used per class only.

        Raises:
            ContextError: Labels are missing, or the task is not a name or an index.
            DataError: The features are not finite floats or of another size than before, or the
                labels do not fit. Nothing was added then.
        """
        check_task(task)
        features = self._projection.features(inputs)
        parts = owners(self._per, task, labels, len(features))
        if not len(features):
            return
        self._projection.fix(features.shape[1])
        self._sums.add(features, parts)
        self._estimate = None

    def merge(self, other: Self) -> None:
        """Add what another one saw: of other tasks, or of the same.

        Exact: merged shards equal one pass over all of their samples. Tasks that are new here come
        after those that are not. Settings other than `per` and `extract` stay as they are here.

        Raises:
            ContextError: It is of another kind, `per`, default temperature or size of features,
                its filters differ, or it is this context itself.
        """
        check_other(self, other, type(self))
        self._check_same(other._settings(), extract_state(other.extract), "the other context")
        self._projection.adopt(other._projection)
        self._sums.merge(other._sums)
        self._calibration.merge(other._calibration)
        self._distances.counts = self._distances.counts + other._distances.counts
        self._estimate = None

    def calibrate(
        self, inputs: Any, labels: Tensor | None = None, *, task: TaskKey | None = None
    ) -> None:
        """Set the temperature, and measure how far known inputs lie, on held-out samples.

        The temperature becomes the one under which what is known of the samples is likeliest:
        their labels, their task, or both. With neither it stays, and only `threshold` profits.
        Adds up over calls, and is kept over tasks; losses of earlier calls stay as measured.

        Args:
            inputs: N samples that `update` did not see.
            labels: Whole numbers [N]; without `task` a label stands for that of any task.
            task: Of all samples.

        Raises:
            ContextError: Labels or task were never seen, or see `class_scores`.
            DataError: See `update`.
        """
        rows = self._rows(inputs)
        if labels is not None or task is not None:
            known = known_components(self.components, len(rows), labels, task).to(rows.device)
            self._calibration.add(self._estimated().logits(rows), known)
        squared = self._estimated().squared(rows)
        self._distances.add(squared.amin(1) / rows.shape[1])

    def novelty(self, inputs: Any) -> Tensor:
        """Return how unlike all components the inputs are, [N] in 0 … 1.

        It is the share of known inputs nearer to their nearest component, in squared Mahalanobis
        distance under the one covariance within components. Once `calibrate` was called, the share
        is one of what it measured; before, it is the χ² distribution with D degrees of freedom.

        Raises:
            ContextError: See `class_scores`.
            DataError: See `update`.
        """
        rows = self._rows(inputs)
        return share_nearer(self._distances, self._estimated().squared(rows), rows.shape[1])

    def class_scores(self, inputs: Any) -> Tensor:
        """Return the log-probability of each of the `components`, [N, M] float64.

        Per task a component is a whole task.

        Raises:
            ContextError: No task was seen yet, a single component was, or there are too few
                samples to estimate anything.
            DataError: See `update`.
        """
        return self._class_scores(self._rows(inputs))

    def class_answers(self, inputs: Any, *, temperature: float = 1.0) -> Answers:
        """Return a function: position of a task -> log p(class | x, task), for `combine_views`.

        It returns [N, C_t] float64. C_t is the largest label of the task plus one; a label that was
        never seen gets −∞.

        Args:
            inputs: N samples.
            temperature: Log-probabilities are divided by it and normalised again.

        Raises:
            ContextError: The temperature is not above 0, or components are not classes; or see
                `class_scores`.
            DataError: See `update`.
        """
        if self._per != "class":
            name = type(self).__name__
            raise ContextError(f"class_answers needs classes: make a {name}(per='class')")
        check_settings(
            temperature=(temperature, _is_positive(temperature), "a finite number above 0")
        )
        return task_answers(self.class_scores(inputs) / temperature, self.components, self.tasks)

    def scores(self, inputs: Any, answers: Answers | None = None) -> Tensor:
        """Return the log-probability of every task, [N, T] float64, the sum over its classes.

        Args:
            inputs: N samples.
            answers: Not looked at.

        Raises:
            ContextError: See `class_scores`.
            DataError: See `update`.
        """
        return task_scores(self.class_scores(inputs), self.components, self.tasks)

    def select(
        self, inputs: Any, answers: Answers | None = None, *, together: bool = False
    ) -> Tensor:
        """Return the likeliest task of each sample, int64 [N]: positions in `tasks`, or `UNKNOWN`.

        With a threshold, a sample is unlike all where its `novelty` reaches it, and a batch that
        comes together where that of more than half of its samples is.

        Args:
            inputs: N samples.
            answers: Not looked at.
            together: All samples come from one task and get the same answer.

        Raises:
            ContextError: See `class_scores`; or the threshold is out of range, or `calibrate` had
                too few samples for it.
            DataError: See `update`.
        """
        rows = self._rows(inputs)
        scores = task_scores(self._class_scores(rows), self.components, self.tasks)
        chosen = likeliest(scores, together=together)
        if self.threshold is None:
            return chosen
        check_measurable(self.threshold, self._distances)
        share = share_nearer(self._distances, self._estimated().squared(rows), rows.shape[1])
        return without_outliers(chosen, share, self.threshold, together=together)

    def state_dict(self) -> dict[str, Any]:
        """Return statistics and calibration, on the CPU, and what `extract` froze."""
        return {
            "kind": type(self).__name__,
            "settings": self._settings(),
            "extract": extract_state(self.extract),
            **self._sums.state(),
            "losses": self._calibration.losses.clone(),
            "calibrated": self._calibration.samples,
            "distances": self._distances.counts.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; `strength`, `grid` and `threshold` stay.

        Raises:
            ContextError: It is of another kind of context or of other settings, or not whole.
        """
        check_kind(self, state, [key for key in self.state_dict() if key != "kind"])
        self._check_same(state["settings"], state["extract"], "the state")
        self._projection.size = state["settings"]["size"]
        self._sums.restore(state)
        self._calibration.losses = state["losses"].clone()
        self._calibration.samples = int(state["calibrated"])
        self._distances.counts = state["distances"].clone()
        self._estimate = None

    def __repr__(self) -> str:
        seen = (
            f"{len(self.tasks)} tasks, {len(self.components)} components, {self._sums.rows} "
            f"samples of {self._projection.size} features"
            if self.tasks
            else "nothing seen yet"
        )
        return f"{type(self).__name__}(per={self._per!r}, extract={self.extract!r}: {seen})"

    def _class_scores(self, rows: Tensor) -> Tensor:
        return (self._estimated().logits(rows) / self.temperature).log_softmax(1)

    def _estimated(self) -> Estimate:
        """Return the estimate from the sums; refuse to be asked before they determine one."""
        check_tasks(self)
        if self._estimate is None:
            self._check_enough()
            self._estimate = self._ESTIMATE(self._sums.statistics(), self._strength, self._grid)
        return self._estimate

    def _check_enough(self) -> None:
        found, name = len(self.components), type(self).__name__
        if found < 2:
            (task, label), *_ = self.components
            seen = f"task {task!r}" if label is None else f"class {label} of task {task!r}"
            raise ContextError(
                f"this {name} has seen {seen} alone, and it tells components apart: call update "
                "with samples of a second one first"
            )
        if self._sums.rows <= found:
            raise ContextError(
                f"{self._sums.rows} samples of {found} components are too few for a {name}: call "
                f"update with at least {found + 1}, better with ten of each component"
            )

    def _rows(self, inputs: Any) -> Tensor:
        check_tasks(self)
        return self._projection.rows(self._projection.features(inputs))

    def _settings(self) -> dict[str, Any]:
        """Return the settings that the sums depend on."""
        return {
            "per": self._per,
            "temperature": self._calibration.default,
            "size": self._projection.size,
        }

    def _check_same(self, theirs: Mapping[str, Any], extract: Any, what: str) -> None:
        wrong = [
            f"{name} {theirs[name]!r} instead of {ours!r}"
            for name, ours in self._settings().items()
            if ours != theirs[name] and not (name == "size" and 0 in (ours, theirs[name]))
        ]
        if wrong:
            raise ContextError(
                f"{what} has {', '.join(wrong)}: make both with the same settings, for features of "
                "the same size"
            )
        adopt_extract(self.extract, extract, what)


def _is_positive(value: object) -> bool:
    return is_number(value) and value > 0  # type: ignore[operator]


def _check_settings(
    per: object,
    extract: object,
    strength: object,
    grid: object,
    temperature: object,
    threshold: object,
) -> None:
    positive = "a finite number above 0, or None"
    check_settings(
        per=(per, per in get_args(Per), f"one of {', '.join(map(repr, get_args(Per)))}"),
        extract=(extract, extract is None or callable(extract), "a function or a module, or None"),
        strength=(strength, strength is None or _is_positive(strength), positive),
        grid=(
            grid,
            isinstance(grid, Sequence) and len(grid) > 0 and all(map(_is_positive, grid)),
            "finite numbers above 0",
        ),
        temperature=(temperature, temperature is None or _is_positive(temperature), positive),
        threshold=threshold_setting(threshold),
    )
