"""Uses: one call of an operation with a rule, and the gradients of its parameters by sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from growmas.importance.alignment import Aligned, State
from growmas.importance.gradients import Gradient
from growmas.importance.operations import Rule
from growmas.importance.rows import RowOwners, Taken, regular

WHOLE = slice(None)
"""All samples."""

Owners = RowOwners | None
"""Owners of the rows of a use; None if row n of dimension 0 belongs to sample n."""


@dataclass(eq=False, slots=True)
class Use:
    """One call of an operation that has a rule.

    Attributes:
        rule: The rule.
        bound: The call's arguments by name.
        parameters: Argument -> parameter that it reads.
        version: Version counter of the data at the call; a later one means it was overwritten.
        edge: Edge of the autograd graph at which the gradient of the operation's own output
            arrives; later hooks and in-place operations do not affect it.
        shape: Shape of the output.
        rows: Number of leading dimensions of the output that are rows.
        state: Where the samples are in the output, as far as it is proven.
        hidden: Arguments whose parameters the graph of this call does not read, because the
            operation was computed from detached copies of them.
        derived: Argument -> expression of parameters in its place, the same for all samples.
        through: Node of a tensor that is the same for all samples, through which the parameter is
            used; nothing else may read it.
        positive: True if the data are known to be ≥ 0, as behind a ReLU.
    """

    rule: Rule
    bound: dict[str, Any]
    parameters: dict[str, nn.Parameter]
    version: int
    edge: GradientEdge
    shape: torch.Size
    rows: int
    state: State | None
    hidden: frozenset[str] = frozenset()
    derived: Mapping[str, Tensor] = field(default_factory=dict)
    through: Any = None
    positive: bool = False

    @property
    def data(self) -> Tensor | None:
        """Argument that holds the samples; None if the rule needs only δ."""
        return None if self.rule.data is None else self.bound[self.rule.data]

    def forget(self) -> None:
        """Release the arguments of the call, so that they need not stay in memory."""
        self.bound.clear()

    @property
    def intact(self) -> bool:
        """True if the data has not been overwritten since the call."""
        return self.data is None or self.data._version == self.version

    def proven_owners(self, samples: int) -> Owners:
        """Return the owners of the rows that follow from the proven state.

        Raises:
            LookupError: The samples are not among the rows of the output.
        """
        row_shape = self.shape[: self.rows]
        if samples == 1:
            count = row_shape.numel()
            return None if row_shape[:1] == (1,) else regular(torch.Size([count]), 0, count, 1)
        if not isinstance(self.state, Aligned) or self.state.axis >= self.rows:
            raise LookupError("the samples are not among the rows")
        if self.state == Aligned(0):
            return None
        return regular(row_shape, self.state.axis, self.state.each, samples)

    def gradients(
        self, delta: Tensor, owners: Owners, cut: slice, dtype: torch.dtype
    ) -> dict[str, Gradient]:
        """Return the per-sample gradients of some samples, by argument.

        They have the dtype of the sums; operations may compute in another, under autocast or in
        half precision.
        """
        data = self.data
        if data is not None and self.rule.broadcasts:
            data = data.expand(self.shape)
        if owners is None:
            if cut == WHOLE:
                return self._apply(data, delta, dtype)
            return self._apply(data if data is None else data[cut], delta[cut], dtype)
        taken = owners.take(cut)
        taken = Taken(taken.rows.to(delta.device), taken.counts.to(delta.device))
        values = self._rows(delta, taken)
        seen = None if data is None else self._rows(data, taken)
        if self.rule.positions:
            values, seen = taken.gather(values), None if seen is None else taken.gather(seen)
            return self._apply(seen, values, dtype)
        found = self._apply(seen, values, dtype)
        return {name: gradient.gathered(taken.gather) for name, gradient in found.items()}

    def _rows(self, values: Tensor, taken: Taken) -> Tensor:
        return taken.select(values.reshape(-1, *values.shape[self.rows :]))

    def _apply(self, data: Tensor | None, delta: Tensor, dtype: torch.dtype) -> dict[str, Gradient]:
        bound = dict(self.bound)
        if data is not None and self.rule.data is not None:
            bound[self.rule.data] = data.to(dtype) if data.is_floating_point() else data
        return self.rule.gradients(bound, delta.to(dtype))
