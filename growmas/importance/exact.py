"""Exact sums over samples of |per-sample gradient|, from one backward pass where rules apply.

A worked example: `net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))` on x [4, 2], with trusted
rules for all four parameters.

    forward    capture records use A (0.weight, 0.bias) and use B (2.weight, 2.bias)
    backward   of Σ_n g_n, up to the edges of A and B and no further
               δ_B [4, 1] arrives:  Σ_n |δ_n h_nᵀ| -> 2.weight,  Σ_n |δ_n| -> 2.bias;  B is released
               δ_A [4, 3] arrives:  Σ_n |δ_n x_nᵀ| -> 0.weight,  Σ_n |δ_n| -> 0.bias

The backward pass of the sum gives per-sample gradients if samples do not influence each other: row
n of δ_A is then the gradient of g_n alone. `alignment` proves that, or `certificate` measures it.
Nothing else is computed: no gradient of the input, no `.grad` of a parameter, no tensor [4, 3, 2]
of per-sample gradients.

The order matters for memory. Asking autograd for δ_A and δ_B at once would hold both until the end.
Instead, only the edges that gradients reach last (here A) are inputs of `torch.autograd.grad`; the
others have a hook on their node, which sums up δ as soon as it arrives (`backward`).

A weight that is used twice is summed over its uses *before* the absolute value, so its group waits
until both gradients have arrived. Parameters without a trusted rule go to the fallback.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

from growmas.importance.backward import pass_gradients
from growmas.importance.gradients import (
    OUTER,
    Gradient,
    PerSample,
    Power,
    Products,
    Rows,
    TiedTable,
)
from growmas.importance.measurement import Measurement
from growmas.importance.recording import Recording, Source
from growmas.importance.sums import running_dtype
from growmas.importance.uses import WHOLE, Owners, Use

CHUNK_ELEMENTS = 2**23
"""Elements of per-sample tensors held at a time: 32 MiB in float32."""


def sums_by_rule(
    measurement: Measurement,
    sources: Mapping[str, Source],
    recording: Recording,
    *,
    counted: Tensor | None = None,
    into: Mapping[str, Tensor] | None = None,
    forget: bool = False,
    witness: "Checked | None" = None,
) -> dict[str, Tensor]:
    """Return Σ_n (1/K) Σ_k |∂ values[n, k] / ∂θ|^power, from one backward pass per column.

    Args:
        measurement: The parameters, and how gradients are summed.
        sources: The uses of each parameter.
        recording: A forward pass.
        counted: The objective to differentiate, if only some samples count; else all values.
        into: Contiguous tensors to which sums are added instead of being returned.
        forget: True if graph and uses are not needed again.
        witness: A sample whose gradients are known, to compare with those of the rules; `into`
            must then be zero, or empty.
    """
    values = recording.values if counted is None else counted
    columns = values.shape[1]
    scale = 1 if measurement.total_over_columns else columns
    in_place = into is not None and scale == 1
    sums = (
        into
        if into is not None and in_place
        else {
            name: torch.zeros(p.shape, dtype=running_dtype(p.dtype), device=p.device)
            for name, p in measurement.parameters.items()
            if name in sources
        }
    )
    groups = _by_uses(sources)
    for column in range(columns if groups else 0):
        last = forget and column == columns - 1
        checked = witness if witness is not None and witness.expects(column) else None
        passing = _Passing(groups, recording, sums, measurement.power, last, checked, column)
        pass_gradients(values[:, column].sum(), recording.graph, passing, keep_graph=not last)
    if scale > 1:
        sums = {name: total / scale for name, total in sums.items()}
    if into is not None and not in_place:
        for name, total in sums.items():
            into[name] += total
    return dict(sums) if into is None else {}


class Checked(Protocol):
    """A sample whose gradients are known.

    Attributes:
        sample: The sample, as a cut of the batch.
    """

    sample: slice

    def expects(self, column: int) -> bool:
        """Return True if a column of the objective is checked."""
        ...

    def compare(self, name: str, column: int, found: Tensor) -> None:
        """Compare |gradient|^power of the sample as a rule gives it."""
        ...


class _Passing:
    """The gradients of one backward pass, summed up as soon as all uses of a parameter arrived.

    Nothing is held longer than that, so that a pass takes little more memory than an ordinary one.
    """

    def __init__(
        self,
        groups: Iterable["_Group"],
        recording: Recording,
        sums: Mapping[str, Tensor],
        power: Power,
        forget: bool,
        checked: Checked | None,
        column: int,
    ) -> None:
        self._checked = checked
        self._column = column
        self._recording = recording
        self._samples = len(recording.values)
        self._sums = sums
        self._power = power
        self._forget = forget
        self._delta: dict[Use, Tensor] = {}
        self._groups: dict[Use, list[_Group]] = {}
        for group in groups:
            for use in group.uses:
                self._groups.setdefault(use, []).append(group)
        self.uses = list(self._groups)

    def arrive(self, use: Use, delta: Tensor | None) -> None:
        """Process the gradient at the output of `use`; None stands for zero."""
        if delta is None:
            return
        self._delta[use] = delta
        for group in list(self._groups[use]):
            if all(other in self._delta for other in group.uses):
                self._add_up(group)

    def finish(self) -> None:
        """Sum up groups of which some uses are not reached by any gradient."""
        for use in list(self._delta):
            for group in list(self._groups.get(use, ())):
                self._add_up(group)

    def _owners(self, use: Use) -> Owners:
        owners = self._recording.owners[use]
        if isinstance(owners, LookupError):
            raise owners  # uses without owners are not among the sources
        return owners

    def _add_up(self, group: "_Group") -> None:
        present = [use for use in group.uses if use in self._delta]
        start = 0
        if self._checked is not None:
            start = self._compare(group, present, self._checked)
        for cut in () if self._added_directly(group) else self._cuts(group, present, start):
            found = {use: self._gradients(use, cut, group) for use in present}
            for name, source in group.members:
                parts = [found[use][argument] for use, argument in source if use in found]
                _joined(parts, self._sums[name]).add_to(self._sums[name], self._power)
        for use in group.uses:
            self._groups[use].remove(group)
            if not self._groups[use]:
                self._delta.pop(use, None)
                if self._forget:
                    use.forget()

    def _added_directly(self, group: "_Group") -> bool:
        """Add the sums without a gradient for each sample, where the rule can; return True then."""
        use = group.uses[0]
        delta, data = self._delta[use], use.data
        direct = use.rule.direct
        if direct is None or delta.dim() > 2 or data is None or len(group.uses) > 1:
            return False
        sums = {
            argument: self._sums[name] for name, source in group.members for _, argument in source
        }
        same = all(t.dtype == delta.dtype == data.dtype for t in sums.values())
        small = delta.numel() + data.numel() <= OUTER or delta.device.type != "cpu"
        if not (same and small) or self._owners(use) is not None:
            return False
        direct(use.bound, delta, sums, self._power, use.positive)
        return True

    def _compare(self, group: "_Group", present: list[Use], checked: Checked) -> int:
        """Compare the gradients of a sample with those that are known for it.

        Returns:
            The first sample that is still to be added up: sums of products that take as long as
            those of any other sample are not computed twice.
        """
        found = {use: self._gradients(use, checked.sample, group) for use in present}
        added = not self._at_one_position(present)
        for name, source in group.members:
            total = self._sums[name]
            own = total if self._column == 0 else torch.zeros_like(total)
            parts = [found[use][argument] for use, argument in source if use in found]
            _joined(parts, own).add_to(own, self._power)
            checked.compare(name, self._column, own)
            if own is not total and added:
                total += own
            elif own is total and not added:
                total.zero_()
        return checked.sample.stop if added else 0

    def _at_one_position(self, uses: list[Use]) -> bool:
        """Return True if every sample has one row and one use: no gradient is held per sample."""
        first = uses[0]
        alone = len(uses) == 1 and self._owners(first) is None
        return alone and self._delta[first].dim() == 2

    def _gradients(self, use: Use, cut: slice, group: "_Group") -> dict[str, Gradient]:
        dtype = self._sums[group.members[0][0]].dtype
        return use.gradients(self._delta[use], self._owners(use), cut, dtype)

    def _cuts(self, group: "_Group", uses: list[Use], start: int) -> list[slice]:
        """Return slices of the samples from `start` on, which fit into CHUNK_ELEMENTS."""
        if self._at_one_position(uses):
            return [WHOLE]
        owners = {use: self._owners(use) for use in uses}
        elements, kinds = 0, {}
        for use, owner in owners.items():
            some = slice(0, 1) if owner is None else owner.largest()
            kinds[use] = self._gradients(use, some, group)
            elements += sum(gradient.elements for gradient in kinds[use].values())
        for name, source in group.members:
            parts = [kinds[use][argument] for use, argument in source if use in kinds]
            if _mixed(parts):  # dense gradients of one sample
                elements += (len(parts) + 1) * self._sums[name].numel()
        step = max(1, CHUNK_ELEMENTS // max(1, elements))
        if step >= self._samples and not start:
            return [WHOLE]
        return [slice(first, first + step) for first in range(start, self._samples, step)]


@dataclass(frozen=True, eq=False)
class _Group:
    """Parameters with the same uses, such as weight and bias: they share the factors."""

    uses: tuple[Use, ...]
    members: list[tuple[str, Source]]


def _by_uses(sources: Mapping[str, Source]) -> list[_Group]:
    together: dict[tuple[Use, ...], _Group] = {}
    for name, source in sources.items():
        uses = tuple(dict.fromkeys(use for use, _ in source))
        together.setdefault(uses, _Group(uses, [])).members.append((name, source))
    return list(together.values())


def _mixed(parts: list[Gradient]) -> bool:
    """Return True if uses are of kinds that can only be summed as dense gradients."""
    if len(parts) == 1:
        return False
    return len({type(part) for part in parts}) > 1 and _tied(parts) is None


def _tied(parts: list[Gradient]) -> TiedTable | None:
    """Return the sum of uses as a matrix and as a table of rows; None if they are others."""
    matrices = [p for p in parts if isinstance(p, Products) and not p.transposed]
    rows = [p for p in parts if isinstance(p, Rows)]
    if not matrices or not rows or len(matrices) + len(rows) < len(parts):
        return None
    return TiedTable(reduce(Products.join, matrices), reduce(Rows.join, rows))


def _joined(parts: list[Gradient], parameter: Tensor) -> Gradient:
    """Sum the uses of a parameter; as dense gradients if their kinds differ."""
    if len(parts) == 1:
        return parts[0]
    tied = _tied(parts)
    if tied is not None:
        return tied
    if _mixed(parts):
        parts = [PerSample(part.dense(parameter)) for part in parts]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.join(part)
    return whole
