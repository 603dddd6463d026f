"""What is asked of a model: which parameters, through which forward, for which objective."""

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
"""Largest difference allowed between two ways to the same values, relative to the largest of
them; for other dtypes 5e-2."""


@dataclass(frozen=True)
class Measurement:
    """A model and the scalars per sample whose gradients are wanted.

    Attributes:
        model: The network, in eval mode, every parameter below requiring gradients.
        parameters: Qualified name -> parameter, each parameter once.
        forward: (model, batch) -> output.
        objective: output -> [N, K], K scalars per sample.
    """

    model: nn.Module
    parameters: dict[str, nn.Parameter]
    forward: Forward
    objective: Objective

    def values(self, batch: Any, where: str) -> Tensor:
        """The objective on `batch`, [N, K], with its graph.

        Raises:
            ImportanceError: The output does not have one row per sample.
            DataError: The model does not run on the batch, or its output is NaN or infinite
                somewhere.
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
    """Refuse what is no network.

    Raises:
        ImportanceError: It is something else.
    """
    if not isinstance(model, nn.Module):
        raise ImportanceError(f"expected a torch.nn.Module, got {model!r:.80}")


def check_finite(gradients: Mapping[str, Tensor]) -> None:
    """Refuse gradients that are NaN or infinite although the output was not.

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
    """Refuse an objective that is another in a whole batch than for its first samples alone.

    Args:
        seen: [2, K] or [1, K], the first samples by themselves.
        values: [N, K], the same samples first.

    Raises:
        ImportanceError: They differ.
    """
    difference = (values[: len(seen)].detach() - seen).abs()
    bound = TOLERANCE.get(seen.dtype, 5e-2) * values.detach().abs().max()
    if values.numel() and bool((difference > bound).any()):
        raise samples_interact("the output", " when others join them")


def samples_interact(what: str, where: str) -> ImportanceError:
    """The error that says so."""
    return ImportanceError(
        f"{what} of one sample depends on the rest of its batch (or the forward pass is "
        f"random){where}: importance is defined per sample. Look for a "
        "BatchNorm without running statistics, a contrast between samples, or dropout that "
        "ignores eval mode; pass function= an objective of each sample by itself"
    )


def _is_finite(values: Tensor) -> bool:
    """Whether all are; their sum tells faster, unless it overflows."""
    return math.isfinite(float(values.sum())) or bool(values.isfinite().all())
