"""Dry runs: a plan is carried out on the network, measured, and rolled back."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from torch import Tensor, nn

from growmas.batches import Forward, default_forward, float_tensors, to_device
from growmas.errors import DataError, PlanError
from growmas.preserving import preserving
from growmas.structure.inspection.explain import predicted_errors, printed
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.units.edit import Edit
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike

T = TypeVar("T")

Metrics = Mapping[str, Callable[[nn.Module], float]]
"""Name -> function of the model, such as the accuracy or the loss of one head."""


@dataclass(frozen=True)
class Outcome:
    """A network with a plan, compared with the network before.

    Attributes:
        parameters: Number of parameters.
        largest_change: Largest absolute change of an output; 0 for the network as it is.
        relative_change: Mean absolute change of the outputs over their mean absolute value.
        metrics: Values of the caller's functions.
        latency: Milliseconds of a forward pass of the example inputs; None if it was not measured.
    """

    parameters: int
    largest_change: float
    relative_change: float
    metrics: Mapping[str, float]
    latency: float | None = None


@dataclass(frozen=True)
class DryRun:
    """Outcomes of a plan that was tried and rolled back; printing it gives a table.

    Attributes:
        plan: The plan.
        before: The network as it is.
        after: The network with the plan carried out.
        reconstructed: The same with reconstruction; None if that was not asked for.
    """

    plan: Plan
    before: Outcome
    after: Outcome
    reconstructed: Outcome | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, in ASCII if the console has nothing else."""
        rule = box.ASCII if options.ascii_only else box.SIMPLE_HEAD
        table = Table(box=rule, title=self.plan.reason or None, title_justify="left")
        table.add_column("network")
        numbers = ("parameters", "largest change", "relative change", *self.before.metrics)
        for name in numbers:
            table.add_column(name, justify="right")
        if self.before.latency is not None:
            table.add_column("latency, ms", justify="right")
        rows = {"as it is": self.before, "with the plan": self.after}
        if self.reconstructed is not None:
            rows["reconstructed"] = self.reconstructed
        for name, outcome in rows.items():
            changes = (outcome.largest_change, outcome.relative_change)
            values = [f"{value:.4g}" for value in (*changes, *outcome.metrics.values())]
            if outcome.latency is not None:
                values.append(f"{outcome.latency:.3g}")
            table.add_row(name, f"{outcome.parameters:,}", *values)
        errors = predicted_errors(self.plan)
        if errors:
            worst = max(errors, key=errors.__getitem__)
            table.caption = f"predicted error of readers: {errors[worst]:.1%} at most, of {worst}"
            table.caption_justify = "left"
        yield table

    @property
    def predicted_errors(self) -> dict[str, float]:
        """Group name -> largest relative error of a layer that reads it, if `select` chose."""
        return predicted_errors(self.plan)

    def __str__(self) -> str:
        """Return the table as text."""
        return printed(self)


class _RollBack(Exception):
    """Ends a dry run: the transaction undoes an edit that raises."""


class _Measurement:
    """The last follower of an edit that shall not last: it measures the network, then raises."""

    def __init__(self, measure: Callable[[], None]) -> None:
        self._measure = measure

    def follow(self, edit: Edit) -> None:
        self._measure()
        raise _RollBack


def measure_with_plan(
    structure: StructureLike,
    plan: Plan,
    measure: Callable[[], T],
    *,
    followers: Iterable[object] = (),
    options: Mapping[str, Any] | None = None,
) -> T:
    """Return `measure()` of the network with a plan carried out, and roll the plan back.

    Args:
        structure: The structure; exactly as before afterwards.
        plan: The plan; an empty one changes nothing.
        measure: Called when the edit is made, verified, reconstructed and followed.
        followers: Objects that follow the edit, and are as before afterwards.
        options: Further arguments of `Structure.apply`.
    """
    if not plan:
        return measure()
    found: list[T] = []
    measurement = _Measurement(lambda: found.append(measure()))
    with suppress(_RollBack):
        structure.apply(plan, followers=[*followers, measurement], **(options or {}))
    return found[0]


class Baseline:
    """The outputs of a network before a change, with which those after it are compared.

    Args:
        structure: The network, as it is now.
        run: Returns the outputs to compare.
        metrics: Name -> function of the model.
        timed: Measures the latency of a network; None measures none.

    Raises:
        PlanError: The metrics are not functions by name.
    """

    def __init__(
        self,
        structure: StructureLike,
        run: Callable[[], list[Tensor]],
        metrics: Metrics,
        timed: Callable[[nn.Module], float] | None = None,
    ) -> None:
        _check_metrics(metrics)
        self._structure = structure
        self._run = run
        self._metrics = metrics
        self._timed = timed
        self._expected = run()

    def outcome(self) -> Outcome:
        """Compare the network as it is at the time of the call with the one before.

        Raises:
            PlanError: A metric does not return a number.
        """
        model = self._structure.model
        with preserving(model):
            values = {name: _number(name, metric(model)) for name, metric in self._metrics.items()}
        changes = _changes(self._expected, self._run())
        latency = None if self._timed is None else self._timed(model)
        return Outcome(self._structure.parameters, *changes, values, latency)


def dry_run(
    structure: StructureLike,
    plan: Plan,
    run: Callable[[], list[Tensor]],
    metrics: Metrics,
    reconstruct: Iterable[Any] | ActivationStatistics | None,
    options: Mapping[str, Any],
    timed: Callable[[nn.Module], float] | None = None,
) -> DryRun:
    """Carry the plan out once, and once more with reconstruction, rolled back each time.

    Args:
        structure: The structure; exactly as before afterwards.
        plan: The plan.
        run: Returns the outputs to compare.
        metrics: Name -> function of the model.
        reconstruct: Batches or statistics for `Structure.apply`; None for no reconstruction.
        options: Further arguments of `Structure.apply`.
        timed: Measures the latency of a network; None measures none.
    """
    baseline = Baseline(structure, run, metrics, timed)

    def outcome(source: Iterable[Any] | ActivationStatistics | None) -> Outcome:
        return measure_with_plan(
            structure, plan, baseline.outcome, options={**options, "reconstruct": source}
        )

    before = baseline.outcome()
    if reconstruct is not None and not isinstance(reconstruct, ActivationStatistics):
        reconstruct = list(reconstruct)
    repaired = outcome(reconstruct) if reconstruct is not None else None
    return DryRun(plan, before, outcome(None), repaired)


def outputs_on(
    model: nn.Module, batches: Iterable[Any], forward: Forward | None
) -> Callable[[], list[Tensor]]:
    """Return a function that gives the model's outputs on batches, in eval mode.

    Raises:
        DataError: There is no batch.
    """
    kept = list(batches)
    if not kept:
        raise DataError("batches= has no batch: give at least one, or None for example inputs")

    def run() -> list[Tensor]:
        device = next(model.parameters()).device
        with preserving(model), torch.no_grad():
            return [
                output
                for batch in kept
                for output in float_tensors(
                    (forward or default_forward)(model, to_device(batch, device))
                )
            ]

    return run


def _check_metrics(metrics: object) -> None:
    if not isinstance(metrics, Mapping) or not all(map(callable, metrics.values())):
        raise PlanError(
            f"metrics={metrics!r:.80}: expected functions of the model by name, such as "
            "{'head 1': lambda model: accuracy}"
        )


def _number(name: str, value: Any) -> float:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PlanError(f"metric {name!r} gave {value!r:.80}: expected a number") from error


def _changes(expected: list[Tensor], found: list[Tensor]) -> tuple[float, float]:
    """Return the largest absolute and the mean relative change."""
    off = [(new - old).abs() for new, old in zip(found, expected, strict=True)]
    size = sum(float(old.abs().sum()) for old in expected)
    largest = max((float(t.max()) for t in off if t.numel()), default=0.0)
    return largest, sum(float(t.sum()) for t in off) / size if size else 0.0
