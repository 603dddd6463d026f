"""MAS importance (Aljundi et al., ECCV 2018, Eq. 2), exact for every parameter of every model."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from growmas.batches import (
    Forward,
    batch_size,
    check_batches,
    check_forward,
    default_forward,
    to_device,
)
from growmas.errors import ImportanceError
from growmas.importance.exact import Trust, absolute_sums
from growmas.importance.measurement import Measurement, check_finite, check_is_module
from growmas.importance.objective import Function, make_objective
from growmas.importance.probe import trusted_rules
from growmas.importance.sums import ImportanceSum, running_dtype
from growmas.preserving import preserving

Estimator = Literal["exact", "batch"]
"""The exact Ω, or the batch approximation."""


def mas_importance(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: Function = "squared_norm",
    estimator: Estimator = "exact",
) -> dict[str, Tensor]:
    """Measure how sensitive the model's output is to each parameter; labels are never used.

    Ω_i = (1/N) Σ_n |∂ g(F(x_n; θ)) / ∂θ_i| with g the squared ℓ2 norm of the output (MAS, Eq. 2):
    one gradient **per sample**, the absolute value **before** the mean over all N samples of all
    batches. The result does not depend on how the samples are cut into batches.

    The model is measured in eval mode and is bit-identical afterwards: modes, gradients, buffers,
    random state, hooks and `requires_grad`. Linear and convolutional layers, embeddings, norms
    in eval mode, PReLU, attention, and parameters that are added or multiplied directly cost
    about one backward pass of the batch; other parameters are measured by `torch.func`, which is
    slower and gives the same result.

    Args:
        model: The network; every floating-point parameter is measured, frozen ones too.
        batches: Iterable of tensors [N, ...], tuples (inputs, ...) or dicts of keyword arguments.
        forward: `forward(model, batch) -> output`, for any other kind of batch, or to select a
            head.
        function: The objective g: "squared_norm"; "vector", the average over the importance of
            each output coordinate; or a callable from the output to [N].
        estimator: "exact", or "batch": the absolute value of the batch-mean gradient, which many
            implementations use for Ω although it is smaller if samples disagree. For comparison
            only.

    Returns:
        Qualified parameter name -> Ω ≥ 0 of the parameter's shape and dtype, on its device. A
        tied parameter stands under its first name. Mean over samples.

    Raises:
        DataError: No samples, a batch that cannot be passed to the model, or an output or a
            gradient that is NaN or infinite.
        ImportanceError: Unknown function or estimator, a forward that is not callable, an output
            that does not fit the function, or samples of a batch that influence each other.
    """
    total = importance_sum(model, batches, forward=forward, function=function, estimator=estimator)
    return {n: omega.to(model.get_parameter(n).dtype) for n, omega in total.importance().items()}


def importance_sum(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: Function = "squared_norm",
    estimator: Estimator = "exact",
) -> ImportanceSum:
    """Return the sum over samples of which `mas_importance` is the mean; such sums can be added.

    Arguments and errors are those of `mas_importance`, except that having no samples is allowed:
    a worker whose shard is empty adds nothing. Sums are float32, or float64 for float64 parameters.
    """
    if estimator not in ("exact", "batch"):
        raise ImportanceError(f"estimator={estimator!r} is not known: give 'exact' or 'batch'")
    check_batches(batches)
    check_forward(forward)
    measurement = ask(model, forward or default_forward, function)
    estimate = ExactSums(measurement) if estimator == "exact" else partial(_batch_sums, measurement)
    totals = {
        name: torch.zeros(p.shape, dtype=running_dtype(p.dtype), device=p.device)
        for name, p in measurement.parameters.items()
    }
    samples = 0
    with measuring(measurement):
        for position, given in enumerate(batches):
            if batch_size(given) == 0:
                continue
            batch = _on_device_of(measurement.parameters, given)
            sums, count = estimate(batch, f"batch {position}", totals)
            samples += count
            for name, found in sums.items():
                totals[name] += found
    check_finite(totals)
    sums = {n: _laid_out_like(measurement.parameters[n], total) for n, total in totals.items()}
    return ImportanceSum(sums, samples)


def ask(model: nn.Module, forward: Forward, function: Function) -> Measurement:
    """Make the measurement of every floating-point parameter of `model`."""
    check_is_module(model)
    parameters = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    return Measurement(model, parameters, forward, make_objective(function))


@contextmanager
def measuring(measurement: Measurement) -> Iterator[None]:
    """Put the model in the state in which gradients are taken; restore it on exit."""
    with preserving(measurement.model), torch.enable_grad():
        for parameter in measurement.parameters.values():
            parameter.requires_grad_(True)
        yield


class ExactSums:
    """Sums of |per-sample gradient| by batch; the rules are checked on the first one."""

    def __init__(self, measurement: Measurement) -> None:
        self._measurement = measurement
        self._trust: Trust | None = None
        self._alone = False

    def __call__(
        self, batch: Any, where: str, into: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], int]:
        """Return the sums over a batch, except those added to `into`, and its number of samples."""
        seen = None
        if self._trust is None or (self._alone and batch_size(batch) != 1):
            self._trust, seen = trusted_rules(self._measurement, batch)
            self._alone = batch_size(batch) == 1  # samples can only interact in a larger batch
        return absolute_sums(self._measurement, batch, self._trust, where, into, seen=seen)


def _batch_sums(
    measurement: Measurement, batch: Any, where: str, into: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], int]:
    """Return the approximation: n · |gradient of the mean over a batch of n samples|."""
    values = measurement.values(batch, where)
    columns = values.shape[1]
    sums = {name: torch.zeros_like(p).detach() for name, p in measurement.parameters.items()}
    for column in range(columns if values.requires_grad else 0):
        found = torch.autograd.grad(
            values[:, column].sum(),
            list(measurement.parameters.values()),
            retain_graph=column < columns - 1,
            materialize_grads=True,
        )
        for name, gradient in zip(sums, found, strict=True):
            sums[name] += gradient.abs() / columns
    return sums, len(values)


def _laid_out_like(parameter: Tensor, total: Tensor) -> Tensor:
    """Return the same values in the memory format of the parameter."""
    if parameter.is_contiguous():
        return total
    return torch.empty_like(parameter, dtype=total.dtype, requires_grad=False).copy_(total)


def _on_device_of(parameters: dict[str, nn.Parameter], batch: Any) -> Any:
    first = next(iter(parameters.values()), None)
    return batch if first is None else to_device(batch, first.device)
