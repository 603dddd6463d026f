"""Measurements: a model, the parameters to measure, the forward pass and the objective."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward, batch_size, leading_size
from growmas.errors import DataError, GrowmasError, ImportanceError
from growmas.importance.alignment_rules import tensors_in
from growmas.importance.gradients import Power
from growmas.importance.objective import BatchObjective
from growmas.importance.ragged import Owner, count_of, owner_of
from growmas.importance.state import Attributes

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference allowed between two computations of the same values, relative to the
largest value; 5e-2 for other dtypes."""

BUILT_IN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""Errors that a batch that does not fit causes; a user's own pass through."""

ROUNDINGS = 16
"""Rounding errors of the largest value that two computations of the same values may differ by."""

Samples = Callable[[Any], int]
"""Batch -> number of samples in it."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """A model and the scalars per sample whose gradients are measured.

    Attributes:
        model: The network, in eval mode; all of `parameters` require gradients.
        parameters: Qualified name -> parameter; a tied parameter stands once.
        forward: (model, batch) -> output.
        objective: (output, batch) -> [N, K], K scalars per sample.
        power: 1 to sum |gradient|, 2 to sum its square.
        total_over_columns: True to sum over the K scalars, False to take their mean.
        count: Batch -> number of samples, where shapes do not tell; None to take it from shapes.
        owner: The sample of each row, or a function from a batch to it; None to take it from
            batches that have it as `batch`, as those of torch-geometric do.
        dtypes: Floating-point dtypes seen in forward passes so far.
        start: Attributes of the model with which every forward pass begins; empty until the
            measurement has begun, as are the following.
        fixed: Id -> tensor of the model: parameters, buffers and tensors in plain attributes.
    """

    model: nn.Module
    parameters: dict[str, nn.Parameter]
    forward: Forward
    objective: BatchObjective
    power: Power = 1
    total_over_columns: bool = False
    count: Samples | None = None
    owner: Owner | None = None
    start: list[Attributes] = field(default_factory=list)
    dtypes: set[torch.dtype] = field(default_factory=set)
    fixed: dict[int, Tensor] = field(default_factory=dict)

    def begin(self, start: Attributes) -> None:
        """Note the attributes with which every forward pass shall begin, and the fixed tensors."""
        self.start[:] = [start]
        held = (*self.model.parameters(), *self.model.buffers(), *start.tensors())
        self.fixed.update((id(tensor), tensor) for tensor in held)

    def end(self) -> None:
        """Forget what `begin` noted."""
        self.start.clear()
        self.fixed.clear()

    def samples_in(self, batch: Any) -> int | None:
        """Return the number of samples in a batch as far as its shapes tell."""
        if self.count is not None:
            return int(self.count(batch))
        owner = self.owners(batch)
        if owner is not None:
            return count_of(batch, owner)
        size = batch_size(batch)
        return leading_size(batch) if size is None else size

    def owners(self, batch: Any) -> Tensor | None:
        """Return the sample of each row of a batch; None if every sample has one row.

        Raises:
            ImportanceError: `owner` is not a vector of whole numbers.
        """
        return owner_of(batch, self.owner)

    def scalars(self, batch: Any, where: str) -> Tensor:
        """Return the objective on `batch`, [N, K], with its graph.

        Raises:
            DataError: The model does not run on the batch.
        """
        for attributes in self.start:
            attributes.restore()
        return self.objective(self._output(batch, where), batch)

    def check(self, values: Tensor, batch: Any, where: str) -> None:
        """Refuse an objective that does not fit the batch, or is not finite.

        Raises:
            ImportanceError: The output does not have one row per sample.
            DataError: The output has NaN or infinite values.
        """
        told = self.count is not None or self.owners(batch) is not None
        given = self.samples_in(batch) if told else batch_size(batch)
        if given not in (None, len(values)):
            raise ImportanceError(
                f"{where} has {given} samples but the output has {len(values)}: the first "
                "dimension of inputs and output must be the samples; pass forward= or function= "
                "to bring it there, samples=lambda batch: ... if the batch has another number, or "
                "owner=lambda batch: ... if its rows belong to samples unevenly, as nodes do"
            )
        if not _is_finite(values.detach()):
            bad = int((~values.isfinite()).any(1).sum())
            raise DataError(
                f"{where}: the model's output is NaN or infinite for {bad} of {len(values)} "
                "samples; look for NaN in the inputs or in the parameters"
            )

    def check_unwritten(self, batch: Any, versions: list[int], where: str) -> None:
        """Refuse a model that writes to its inputs: the next pass would see others.

        Raises:
            ImportanceError: A tensor of the batch has another version than before.
        """
        if versions != versions_of(batch):
            raise ImportanceError(
                f"{where}: the model writes to its inputs, and importance needs the same inputs "
                "again; use operations that are not in place, or give it a copy: "
                "forward=lambda model, batch: model(batch.clone())"
            )

    def values(self, batch: Any, where: str) -> Tensor:
        """Return the objective on `batch`, [N, K], after checking it.

        Raises:
            ImportanceError: The output does not have one row per sample.
            DataError: The model does not run on the batch, or its output has NaN or infinite
                values.
        """
        values = self.scalars(batch, where)
        self.check(values, batch, where)
        return values

    def same_values(self, some: Tensor, whole: Tensor) -> bool:
        """Return True if two computations of the objective of the same samples agree.

        The tolerance is relative to the differences between samples: relative to the values, a
        common offset of the outputs would hide an influence between samples.

        Args:
            some: [n, K].
            whole: [n, K], the same samples in another batch.
        """
        some, whole = some.detach(), whole.detach()
        if not whole.numel():
            return True
        tolerance, eps = TOLERANCE.get(whole.dtype, 5e-2), torch.finfo(whole.dtype).eps
        coarse = [dtype for dtype in self.dtypes if torch.finfo(dtype).eps > eps]
        if coarse:  # parts of the model compute with less precision than the objective has
            eps = max(torch.finfo(dtype).eps for dtype in coarse)
            tolerance = max(tolerance, 100 * eps)
        bound = tolerance * (whole.amax(0) - whole.amin(0)) + ROUNDINGS * eps * whole.abs().amax(0)
        return bool(((some - whole).abs() <= bound).all())

    def _output(self, batch: Any, where: str) -> Any:
        try:
            return self.forward(self.model, batch)
        except (torch.OutOfMemoryError, GrowmasError):
            raise
        except BUILT_IN as error:
            raise DataError(
                f"{where}: the model does not run on it ({type(error).__name__}: {error}). Its "
                "shape and dtype must be what the model is called with; or pass "
                "forward=lambda model, batch: ..."
            ) from error


def versions_of(batch: Any) -> list[int]:
    """Return how often each tensor of a batch has been written to."""
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors_in(batch)]


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
