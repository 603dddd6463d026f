"""Fallback: per-sample gradients of any parameter of any model, without a rule."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from growmas.batches import batch_size, cut, map_tensors
from growmas.importance.measurement import Measurement

logger = logging.getLogger("growmas")


def absolute_sums_by_sample(
    measurement: Measurement, parameters: dict[str, nn.Parameter], batch: Any, budget: int
) -> dict[str, Tensor]:
    """Return Σ_n (1/K) Σ_k |∂ objective[n, k] / ∂θ| from the gradient of every sample.

    `torch.func` computes several samples at once. If a model does not allow that (control flow
    that depends on values, batches that cannot be cut), gradients are taken one by one.

    Args:
        measurement: Model, forward and objective.
        parameters: Qualified name -> parameter to measure.
        batch: One batch on the model's device.
        budget: Number of elements of per-sample gradients to hold at a time.
    """
    if batch_size(batch) is not None:
        try:
            return _mapped(measurement, parameters, batch, budget)
        except (RuntimeError, ValueError, TypeError) as reason:
            logger.debug("per-sample gradients one by one, since torch.func refused: %s", reason)
    sums = {name: torch.zeros_like(p).detach() for name, p in parameters.items()}
    for gradients in gradients_one_by_one(measurement, parameters, batch):
        for name, gradient in gradients.items():
            sums[name] += gradient.abs().mean(0)
    return sums


def gradients_one_by_one(
    measurement: Measurement, parameters: dict[str, nn.Parameter], batch: Any
) -> Iterator[dict[str, Tensor]]:
    """Yield for every sample the gradients of its K scalars, {name: [K, *shape]}, one by one."""
    size = batch_size(batch)
    pieces = [batch] if size is None else [cut(batch, n, n + 1) for n in range(size)]
    for piece in pieces:
        for row in measurement.objective(measurement.forward(measurement.model, piece)):
            yield gradients_of(row, parameters)


def gradients_of(row: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the gradients of K scalars, {name: [K, *shape]}; zero where there is no dependence."""
    found = [
        torch.autograd.grad(
            scalar,
            list(parameters.values()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        if scalar.requires_grad
        else [torch.zeros_like(p) for p in parameters.values()]
        for scalar in row
    ]
    return {
        name: torch.stack(columns) if len(columns) > 1 else columns[0].unsqueeze(0)
        for name, columns in zip(parameters, map(_dense, zip(*found, strict=True)), strict=True)
    }


def _dense(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Make the gradients of a table with sparse=True dense."""
    return tuple(g if g.layout == torch.strided else g.to_dense() for g in gradients)


class _Caller(nn.Module):
    """The objective as a module, as `functional_call` requires."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self.model = measurement.model
        self.measurement = measurement

    def forward(self, batch: Any) -> Tensor:
        return self.measurement.objective(self.measurement.forward(self.model, batch))


def _mapped(
    measurement: Measurement, parameters: dict[str, nn.Parameter], batch: Any, budget: int
) -> dict[str, Tensor]:
    caller = _Caller(measurement)
    values = {f"model.{name}": p.detach() for name, p in parameters.items()}
    buffers = {f"model.{name}": buffer for name, buffer in measurement.model.named_buffers()}

    def scalars(values: dict[str, Tensor], sample: Any) -> Tensor:
        single = map_tensors(sample, lambda tensor: tensor.unsqueeze(0))
        return functional_call(caller, {**buffers, **values}, (single,)).squeeze(0)  # type: ignore[no-any-return]

    size = batch_size(batch) or 0
    step = max(1, budget // max(1, sum(p.numel() for p in parameters.values())))
    sums = {name: torch.zeros_like(p).detach() for name, p in parameters.items()}
    gradients = vmap(jacrev(scalars), in_dims=(None, 0))
    with torch.no_grad():
        for start in range(0, size, step):
            found = gradients(values, cut(batch, start, min(start + step, size)))
            for name, total in sums.items():
                total += found[f"model.{name}"].abs().mean(1).sum(0)
    return sums
