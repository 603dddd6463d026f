"""Measurements: a model, the parameters to measure, the forward pass and the objective."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward, batch_size
from growmas.errors import DataError, ImportanceError
from growmas.importance.objective import Objective

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference allowed between two computations of the same values, relative to the
largest value; 5e-2 for other dtypes."""


@dataclass(frozen=True)
class Measurement:
    """A model and the scalars per sample whose gradients are measured.

    Attributes:
        model: The network, in eval mode; all of `parameters` require gradients.
        parameters: Qualified name -> parameter; a tied parameter stands once.
        forward: (model, batch) -> output.
        objective: output -> [N, K], K scalars per sample.
    """

    model: nn.Module
    parameters: dict[str, nn.Parameter]
    forward: Forward
    objective: Objective

    def values(self, batch: Any, where: str) -> Tensor:
        """Return the objective on `batch`, [N, K], with its graph.

        Raises:
            ImportanceError: The output does not have one row per sample.
            DataError: The model does not run on the batch, or its output has NaN or infinite
                values.
        """
        values = self.objective(self._output(batch, where))
        given = batch_size(batch)
        if given not in (None, len(values)):
            raise ImportanceError(
                f"{where} has {given} samples but the output has {len(values)}: the first "
                "dimension of inputs and output must be the samples; pass forward= or function= "
                "to bring it there"
            )
        if not _is_finite(values.detach()):
            bad = int((~values.isfinite()).any(1).sum())
            raise DataError(
                f"{where}: the model's output is NaN or infinite for {bad} of {len(values)} "
                "samples; look for NaN in the inputs or in the parameters"
            )
        return values

    def _output(self, batch: Any, where: str) -> Any:
        try:
            return self.forward(self.model, batch)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            raise DataError(
                f"{where}: the model does not run on it ({error}). Its shape and dtype must be "
                "what the model is called with; or pass forward=lambda model, batch: ..."
            ) from error


def check_is_module(model: object) -> None:
    """Refuse a model that is not a network.

    Raises:
        ImportanceError: It is not a `torch.nn.Module`.
    """
    if not isinstance(model, nn.Module):
        raise ImportanceError(f"model={model!r:.80}: expected a torch.nn.Module")


def check_finite(gradients: Mapping[str, Tensor]) -> None:
    """Refuse gradients that are NaN or infinite although the output was finite.

    Raises:
        DataError: Names the first such parameter.
    """
    for name, gradient in gradients.items():
        if not _is_finite(gradient):
            raise DataError(
                f"the gradient of {name!r} is NaN or infinite although the output is finite: look "
                "for a square root, a norm or a logarithm at 0 in the model or in function="
            )


def check_company(seen: Tensor, values: Tensor) -> None:
    """Refuse an objective whose first samples change when the rest of the batch joins them.

    Args:
        seen: [2, K] or [1, K], the objective of the first samples without the others.
        values: [N, K], the objective of the whole batch.

    Raises:
        ImportanceError: The first samples have different values.
    """
    difference = (values[: len(seen)].detach() - seen).abs()
    bound = TOLERANCE.get(seen.dtype, 5e-2) * values.detach().abs().max()
    if values.numel() and bool((difference > bound).any()):
        raise samples_interact("the output", " when others join them")


def samples_interact(what: str, where: str) -> ImportanceError:
    """Make the error about samples that influence each other."""
    return ImportanceError(
        f"{what} of one sample depends on the rest of its batch (or the forward pass is "
        f"random){where}: importance is defined per sample. Look for a "
        "BatchNorm without running statistics, a contrast between samples, or dropout that "
        "ignores eval mode; pass function= an objective of each sample by itself"
    )


def _is_finite(values: Tensor) -> bool:
    """Return True if all values are finite; the sum is a faster test, unless it overflows."""
    return math.isfinite(float(values.sum())) or bool(values.isfinite().all())
