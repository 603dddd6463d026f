"""The record of a batch's forward pass: the uses of parameters, and whose sample each row is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from growmas.importance.alignment_rules import Independent
from growmas.importance.backward import check_checkpoints
from growmas.importance.capture import captured_uses, covered
from growmas.importance.certificate import can_measure, owners_of_rows, precision
from growmas.importance.derived import with_derived
from growmas.importance.graph import Graph
from growmas.importance.measurement import Measurement, versions_of
from growmas.importance.rows import RowOwners
from growmas.importance.uses import Owners, Use

Source = tuple[tuple[Use, str], ...]
"""Every use of a parameter, each with the name of the argument."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One forward pass of a batch, with all that the rules need.

    Attributes:
        values: The objective, [N, K].
        graph: Graph of `values`.
        owners: Use -> owners of its rows; None if they are not known. Uses that do not reach
            the objective are left out.
        independent: True if no function could have mixed the samples.
        judged: True if code has decided by values of the batch, which may have mixed them still.
        writes: True if the forward pass replaced the data of a tensor.
        rounding: Relative difference that rounding may cause, from the coarsest dtype seen.
    """

    values: Tensor
    graph: Graph
    owners: Mapping[Use, Owners | LookupError]
    independent: bool
    judged: bool
    writes: bool
    rounding: float

    def reaches(self, parameter: Tensor) -> bool:
        """Return True if the objective depends on a parameter; its gradient is 0 otherwise."""
        hidden = (
            p is parameter for use in self.owners for name, p in use.parameters.items()
            if name in use.hidden
        )  # fmt: skip
        return self.graph.reads[id(parameter)] > 0 or any(hidden)

    def mixes(self) -> bool:
        """Return True if rows that depend on the batch belong to several samples."""
        return can_measure(len(self.values), self.rounding) and any(
            isinstance(owners, LookupError) and not isinstance(use.state, Independent)
            for use, owners in self.owners.items()
        )

    def contradicts(self, other: "Recording") -> bool:
        """Return True if some row has other owners in another forward pass of the same batch."""
        pairs = zip(self.owners.values(), other.owners.values(), strict=False)
        return any(
            isinstance(one, RowOwners)
            and isinstance(two, RowOwners)
            and len(one.owner) == len(two.owner)
            and bool(((one.owner != two.owner) & (one.owner >= 0) & (two.owner >= 0)).any())
            for one, two in pairs
        )

    def sources(self, measurement: Measurement) -> dict[str, Source]:
        """Return the parameters of which every use has known owners, with these uses."""
        known = {u: o for u, o in self.owners.items() if not isinstance(o, LookupError)}
        return covered(measurement, known, self.graph)


def record(measurement: Measurement, batch: Any, where: str) -> Recording:
    """Send a batch through the model, and find the owners of all rows.

    Args:
        measurement: Model, parameters, forward and objective.
        batch: One batch on the model's device.
        where: Name of the batch in errors.
    """
    ragged = measurement.owners(batch) is not None
    expected = 0 if ragged else measurement.samples_in(batch) or 0  # 0: shapes prove nothing
    versions = versions_of(batch)
    with captured_uses(measurement, batch, expected) as recorder:
        values = measurement.scalars(batch, where)
        aligned = recorder.alignment.keeps(values)
    measurement.check_unwritten(batch, versions, where)
    measurement.check(values, batch, where)
    measurement.dtypes.update(recorder.dtypes)
    graph, samples = Graph(values), len(values)
    check_checkpoints(graph, where)
    if any(use.derived for use in recorder.uses):
        wanted = {id(p): p for p in measurement.parameters.values()}
        graph, uses = with_derived(graph, values, recorder.uses, wanted)
    else:
        uses = [use for use in recorder.uses if graph.has(use)]
    independent = samples == 1 or (aligned and samples == expected)
    rounding = precision(recorder.dtypes)
    owners: dict[Use, Owners | LookupError] = {}
    if independent:
        for use in uses:
            try:
                owners[use] = use.proven_owners(samples)
            except LookupError as reason:
                owners[use] = reason
    else:
        mixed = LookupError("some row belongs to several samples")
        measured = owners_of_rows(values, uses, graph, rounding)
        owners = {use: mixed if found is None else found for use, found in measured.items()}
    judged = recorder.alignment.judged and samples > 1
    return Recording(values, graph, owners, independent, judged, recorder.writes, rounding)
