"""Fallback: per-sample gradients of any parameter of any model, without a rule.

A worked example: a network of a GRU and a linear layer, on 256 samples. The rules know the linear
layer; the four parameters of the GRU are left.

1. `torch.func` is asked for the gradients of some samples at once with respect to these four. The
   other parameters are put in detached, so nothing is computed for them.
2. If the model does not allow that (control flow that depends on values, a fused kernel, modules
   that are moved inside the forward pass), each sample goes through the model alone, and this is
   remembered for the batches that follow.
3. If single samples cannot be taken out of the batch, as of a graph batch, the gradient of every
   row of the objective is taken from one forward pass of the whole batch.

In 1 and 2 the objective of every sample alone is compared with that in the batch.
"""

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from growmas.errors import DataError
from growmas.importance.company import alone, check_alone
from growmas.importance.cutting import Cutting, filled
from growmas.importance.gradients import magnitude
from growmas.importance.measurement import Measurement
from growmas.importance.state import swapped
from growmas.importance.sums import running_dtype

logger = logging.getLogger("growmas")


class Fallback:
    """Sums over samples of |per-sample gradient| for parameters without a rule.

    Attributes:
        measurement: Model, forward, objective, and how gradients are summed.
        mappable: False once `torch.func` has refused the model.
    """

    def __init__(self, measurement: Measurement) -> None:
        """Begin without knowing whether `torch.func` accepts the model."""
        self.measurement = measurement
        self.mappable = True

    def sums(
        self,
        parameters: dict[str, nn.Parameter],
        batch: Any,
        cutting: Cutting | None,
        values: Tensor,
        budget: int,
    ) -> dict[str, Tensor]:
        """Return Σ_n (1/K) Σ_k |∂ objective[n, k] / ∂θ|^power.

        Args:
            parameters: Qualified name -> parameter to measure.
            batch: One batch on the model's device.
            cutting: The way to take samples out of it; None if there is none.
            values: The objective of the batch, [N, K].
            budget: Number of elements of per-sample gradients to hold at a time.

        Raises:
            ImportanceError: The objective of a sample depends on the other samples.
        """
        if cutting is not None and cutting.mappable and self.mappable:
            try:
                sums, found = self._mapped(parameters, cutting, budget)
            except (DataError, RuntimeError, ValueError, TypeError) as reason:
                logger.debug("per-sample gradients one by one, torch.func refused: %s", reason)
                self.mappable = False
            else:
                check_alone(self.measurement, found, values)
                return sums
        with only(self.measurement, parameters):
            if cutting is None:
                whole = self.measurement.scalars(batch, "the batch")
                check_alone(self.measurement, whole, values)
                return self._by_rows(parameters, list(whole))
            rows = []
            sums = self._zeros(parameters)
            for value in alone(self.measurement, cutting):
                rows.append(value.detach())
                for name, total in self._by_rows(parameters, [value[0]]).items():
                    sums[name] += total
            check_alone(self.measurement, torch.cat(rows), values)
        return sums

    def _zeros(self, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        return {
            n: torch.zeros(p.shape, dtype=running_dtype(p.dtype), device=p.device)
            for n, p in parameters.items()
        }

    def _add(self, sums: dict[str, Tensor], name: str, gradients: Tensor, columns: int) -> None:
        """Add gradients [m, *shape] of scalars, of which each sample has `columns`."""
        found = magnitude(gradients.to(sums[name].dtype), self.measurement.power).sum(0)
        sums[name] += found if self.measurement.total_over_columns else found / columns

    def _by_rows(
        self, parameters: dict[str, nn.Parameter], rows: list[Tensor]
    ) -> dict[str, Tensor]:
        sums = self._zeros(parameters)
        for row in rows:
            for name, gradients in gradients_of(row, parameters).items():
                self._add(sums, name, gradients, len(row))
        return sums

    def _mapped(
        self, parameters: dict[str, nn.Parameter], cutting: Cutting, budget: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the sums, and the objective of every sample alone, by `torch.func`."""
        measurement = self.measurement
        fixed = {id(p): p.detach() for p in measurement.model.parameters()}
        leaves = [entry for entry in cutting.entries if isinstance(entry, Tensor)]

        def scalars(given: dict[str, Tensor], entries: list[Tensor]) -> tuple[Tensor, Tensor]:
            single = filled(cutting.template, [entry.unsqueeze(0) for entry in entries])
            own = {id(parameters[name]): value for name, value in given.items()}
            with swapped(measurement.model, {**fixed, **own}):
                row = measurement.scalars(single, "a sample by itself").squeeze(0)
            return row, row

        given = {name: p.detach() for name, p in parameters.items()}
        step = max(1, budget // max(1, sum(p.numel() for p in parameters.values())))
        sums = self._zeros(parameters)
        gradients = vmap(jacrev(scalars, has_aux=True), in_dims=(None, 0))
        values = []
        with torch.no_grad(), warnings.catch_warnings():
            # some operations are mapped over one by one, which is still faster than batches of one
            warnings.filterwarnings("ignore", "There is a performance drop")
            for start in range(0, cutting.samples, step):
                found, row = gradients(given, [leaf[start : start + step] for leaf in leaves])
                values.append(row)
                for name, jacobian in found.items():
                    self._add(sums, name, jacobian.flatten(0, 1), row.shape[1])
        return sums, torch.cat(values)


class only:
    """Context in which nothing but some parameters requires gradients."""

    def __init__(self, measurement: Measurement, parameters: dict[str, nn.Parameter]) -> None:
        wanted = {id(p) for p in parameters.values()}
        self._others = [p for p in measurement.parameters.values() if id(p) not in wanted]

    def __enter__(self) -> None:
        for parameter in self._others:
            parameter.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for parameter in self._others:
            parameter.requires_grad_(True)


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
