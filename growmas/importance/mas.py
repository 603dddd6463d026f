"""MAS importance (Aljundi et al., ECCV 2018, Eq. 2), exact for every parameter of every model."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import (
    Forward,
    batch_size,
    check_batches,
    default_forward,
    to_device,
)
from growmas.errors import ImportanceError
from growmas.importance.exact import Trust, absolute_sums
from growmas.importance.measurement import Measurement, check_finite, check_is_module
from growmas.importance.objective import make_objective
from growmas.importance.probe import trusted_rules
from growmas.importance.sums import ImportanceSum, running_dtype
from growmas.preserving import preserving


def mas_importance(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: str | Callable[[Any], Tensor] = "squared_norm",
    estimator: str = "exact",
) -> dict[str, Tensor]:
    """How sensitive the model's output is to each of its parameters; labels are never used.

    Ω_i = (1/N) Σ_n |∂ g(F(x_n; θ)) / ∂θ_i| with g the squared ℓ2 norm of the output (MAS, Eq. 2):
    one gradient **per sample**, the absolute value **before** the mean over all N samples of all
    batches. It does not depend on how the samples are cut into batches.

    The model is measured in eval mode and is bit-identical afterwards: modes, gradients, buffers,
    random state, hooks and `requires_grad`. Linear and convolutional layers, embeddings, norms
    in eval mode, PReLU, attention, and parameters added or multiplied as they are cost about one
    backward pass of the batch; others take the slower way of `torch.func`, with the same result.

    Args:
        model: The network; every floating-point parameter is measured, frozen ones too.
        batches: Iterable of tensors [N, ...], tuples (inputs, ...) or dicts of keyword arguments.
        forward: `forward(model, batch) -> output`, for any other kind of batch, or to choose a
            head.
        function: What of the output is measured: "squared_norm"; "vector", the average over the
            importance of each output coordinate; or a callable from the output to [N].
        estimator: "exact", or "batch": the absolute value of the batch-mean gradient, which many
            implementations take for Ω although it is smaller where samples disagree. For
            comparison only.

    Returns:
        Qualified parameter name -> Ω ≥ 0 of the parameter's shape and dtype, on its device. A
        tied parameter stands under its first name. Mean over samples.

    Raises:
        DataError: No sample at all, a batch that cannot be passed on, or an output or a gradient
            that is NaN or infinite.
        ImportanceError: Unknown function or estimator, an output that does not fit the function,
            or samples of a batch that influence each other.
    """
    total = importance_sum(model, batches, forward=forward, function=function, estimator=estimator)
    return {n: omega.to(model.get_parameter(n).dtype) for n, omega in total.importance().items()}


def importance_sum(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: str | Callable[[Any], Tensor] = "squared_norm",
    estimator: str = "exact",
) -> ImportanceSum:
    """The sum over samples that `mas_importance` is the mean of, to be added to other sums.

    Arguments and errors are those of `mas_importance`, but no sample at all is no error: a worker
    whose shard is empty adds nothing. Sums are float32, or float64 where the parameters are.
    """
    if estimator not in ("exact", "batch"):
        raise ImportanceError(f"estimator={estimator!r} is not known: give 'exact' or 'batch'")
    check_batches(batches)
    asked = ask(model, forward or default_forward, function)
    estimate = ExactSums(asked) if estimator == "exact" else partial(_batch_sums, asked)
    totals = {
        name: torch.zeros(p.shape, dtype=running_dtype(p.dtype), device=p.device)
        for name, p in asked.parameters.items()
    }
    samples = 0
    with measuring(asked):
        for position, given in enumerate(batches):
            if batch_size(given) == 0:
                continue
            batch = _on_device_of(asked.parameters, given)
            sums, count = estimate(batch, f"batch {position}", totals)
            samples += count
            for name, found in sums.items():
                totals[name] += found
    check_finite(totals)
    sums = {n: _laid_out_like(asked.parameters[n], total) for n, total in totals.items()}
    return ImportanceSum(sums, samples)


def ask(model: nn.Module, forward: Forward, function: str | Callable[[Any], Tensor]) -> Measurement:
    """Ask for every floating-point parameter of `model`."""
    check_is_module(model)
    parameters = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    return Measurement(model, parameters, forward, make_objective(function))


@contextmanager
def measuring(asked: Measurement) -> Iterator[None]:
    """The state in which gradients are taken; everything is put back on leaving."""
    with preserving(asked.model), torch.enable_grad():
        for parameter in asked.parameters.values():
            parameter.requires_grad_(True)
        yield


class ExactSums:
    """Σ_n |per-sample gradient| batch by batch; the rules are probed on the first one."""

    def __init__(self, asked: Measurement) -> None:
        self._asked = asked
        self._trust: Trust | None = None
        self._alone = False

    def __call__(
        self, batch: Any, where: str, into: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], int]:
        """The sums over a batch that were not added to `into`, and its samples."""
        seen = None
        if self._trust is None or (self._alone and batch_size(batch) != 1):
            self._trust, seen = trusted_rules(self._asked, batch)
            self._alone = batch_size(batch) == 1  # interactions show in company only
        return absolute_sums(self._asked, batch, self._trust, where, into, seen=seen)


def _batch_sums(
    asked: Measurement, batch: Any, where: str, into: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], int]:
    """The approximation: n · |gradient of the mean over a batch of n samples|."""
    values = asked.values(batch, where)
    columns = values.shape[1]
    sums = {name: torch.zeros_like(p).detach() for name, p in asked.parameters.items()}
    for column in range(columns if values.requires_grad else 0):
        found = torch.autograd.grad(
            values[:, column].sum(),
            list(asked.parameters.values()),
            retain_graph=column < columns - 1,
            materialize_grads=True,
        )
        for name, gradient in zip(sums, found, strict=True):
            sums[name] += gradient.abs() / columns
    return sums, len(values)


def _laid_out_like(parameter: Tensor, total: Tensor) -> Tensor:
    """The same values in the memory format of the parameter."""
    if parameter.is_contiguous():
        return total
    return torch.empty_like(parameter, dtype=total.dtype, requires_grad=False).copy_(total)


def _on_device_of(parameters: dict[str, nn.Parameter], batch: Any) -> Any:
    first = next(iter(parameters.values()), None)
    return batch if first is None else to_device(batch, first.device)
