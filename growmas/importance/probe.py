"""Probe: a check of the rules on two samples, before they are used on all.

A worked example: `net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))` on a batch [256, 2].

1. The first two samples go through the network together. Capture records two uses of `linear`, and
   the rules give |∇g₁| + |∇g₂| for 0.weight, 0.bias, 2.weight and 2.bias.
2. Each of the two goes through the network alone, and automatic differentiation gives ∇g₁ and ∇g₂.
   If g₁ or g₂ is another than in step 1, then samples influence each other, as with batch
   statistics; a per-sample gradient does not exist, and the measurement is refused.
3. A parameter whose sums from both steps agree is trusted to its rules. The others go to the
   fallback: the rule is wrong, or a subclass computes something else.

A parameter that the two samples do not reach, such as the weight of an expert, is trusted if its
rules were right for other parameters.

Rounding can flip a ReLU whose input is almost 0, and then a gradient differs although nothing is
wrong. A parameter that fails is therefore tried once more on two other samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.importance.company import alone, check_alone
from growmas.importance.cutting import Cutting
from growmas.importance.exact import Recording, Source, record, sums_by_rule
from growmas.importance.fallback import gradients_of
from growmas.importance.gradients import magnitude
from growmas.importance.measurement import TOLERANCE, Measurement, check_finite
from growmas.importance.operations import Rule
from growmas.importance.sums import running_dtype

ROUNDINGS = 100
"""Gradients below this many rounding errors count as 0; `_rounding` has the formula."""

COLUMNS = 4
"""Number of columns of the objective that the probe differentiates."""


@dataclass(frozen=True)
class Trust:
    """The rules that agreed with automatic differentiation on a few samples.

    Attributes:
        right: Names of the parameters for which they did.
        wrong: Names of those for which they did not.
        rules: Rules that were right for some parameter and wrong for none.
    """

    right: frozenset[str]
    wrong: frozenset[str]
    rules: frozenset[Rule]

    def covers(self, name: str, source: Source) -> bool:
        """Return True if a parameter may be measured by the rules of its uses."""
        if name in self.right or name in self.wrong:
            return name in self.right
        return all(use.rule in self.rules for use, _ in source)


def trusted_rules(
    measurement: Measurement, batch: Any, cutting: Cutting | None, whole: Recording
) -> tuple[Trust, Tensor]:
    """Check the rules against automatic differentiation on the first two samples of a batch.

    Args:
        measurement: Model, parameters, forward and objective.
        batch: The batch.
        cutting: The way to take samples out of it; None if there is none.
        whole: A forward pass of the batch.

    Returns:
        The rules that may be used, and the objective of the two samples.

    Raises:
        ImportanceError: The samples of a batch influence each other, so that a per-sample
            gradient does not exist.
    """
    if cutting is None:
        return _Check(measurement, whole, batch, None).trust(), whole.values[:2].detach()
    first = _checked_pair(measurement, cutting, 0)
    trust, seen = first.trust(), first.recording.values.detach()
    if trust.wrong and cutting.samples >= 4:
        again = _checked_pair(measurement, cutting, 2).trust()
        mended = trust.wrong & again.right
        rules = trust.rules | (again.rules if mended == trust.wrong else frozenset())
        trust = Trust(trust.right | mended, trust.wrong - mended, rules)
    return trust, seen


def _checked_pair(measurement: Measurement, cutting: Cutting, start: int) -> "_Check":
    index = slice(start, start + 2)
    pair = cutting.part(index)
    batch = pair.take(slice(None))
    return _Check(measurement, record(measurement, batch, "the first batch"), batch, pair)


class _Check:
    """Sums by rule and by automatic differentiation, on two samples.

    Attributes:
        recording: The forward pass of both, or of a whole batch that cannot be cut.
    """

    def __init__(
        self, measurement: Measurement, recording: Recording, batch: Any, pair: Cutting | None
    ) -> None:
        self.recording = recording
        self._measurement = measurement
        self._batch = batch
        self._pair = pair
        self._sources = recording.sources(measurement)

    def trust(self) -> Trust:
        """Compare both, parameter by parameter."""
        expected = self._expected()
        values = self.recording.values
        columns = values[:, :COLUMNS]
        counted = torch.cat([columns[:2], columns[2:] * 0])
        found = sums_by_rule(self._measurement, self._sources, self.recording, counted=counted)
        rounding = _rounding(self._measurement, values)
        right = {n for n, total in found.items() if self._close(n, total, expected[n], rounding)}
        wrong = found.keys() - right
        rules = {use.rule for name in right for use, _ in self._sources[name]}
        rules -= {use.rule for name in wrong for use, _ in self._sources[name]}
        return Trust(frozenset(right), frozenset(wrong), frozenset(rules))

    def _expected(self) -> Mapping[str, Tensor]:
        """Return the sums by automatic differentiation, and check that samples do not interact."""
        values = self.recording.values
        if self._pair is None:
            whole = self._measurement.scalars(self._batch, "the first batch")
            check_alone(self._measurement, whole, values)
            return self._sums([row[:COLUMNS] for row in whole[:2]])
        rows = list(alone(self._measurement, self._pair))
        check_alone(self._measurement, torch.cat([row.detach() for row in rows]), values)
        return self._sums([row[0, :COLUMNS] for row in rows])

    def _sums(self, rows: list[Tensor]) -> dict[str, Tensor]:
        parameters = {n: self._measurement.parameters[n] for n in self._sources}
        sums: dict[str, Tensor] = {}
        for row in rows if parameters else ():
            for name, found in gradients_of(row, parameters).items():
                check_finite({name: found})
                precise = found.to(running_dtype(found.dtype))
                total = magnitude(precise, self._measurement.power).sum(0)
                total = total if self._measurement.total_over_columns else total / len(row)
                sums[name] = sums[name] + total if name in sums else total
        return sums

    def _close(self, name: str, found: Tensor, expected: Tensor, rounding: float) -> bool:
        if not found.numel():
            return True
        dtypes = (self._measurement.parameters[name].dtype, self.recording.values.dtype)
        tolerance = max(TOLERANCE.get(dtype, 5e-2) for dtype in dtypes)
        return _largest(found - expected) <= tolerance * _largest(expected) + rounding


def _rounding(measurement: Measurement, values: Tensor) -> float:
    """Return the size of gradients that rounding alone produces, for instance by cancellation.

    A relative change ε of a parameter θ or of what flows changes the objective g by about ε g, as
    would a gradient of ε g / θ. The bias of attention keys, a bias before an InstanceNorm and the
    squared norm of a normalised output have a gradient of 0; rounding makes it about this large.
    """
    weights = [p.detach() for p in measurement.parameters.values() if p.numel()]
    largest = max((float(weight.abs().max()) for weight in weights), default=0.0)
    if not largest:
        return 0.0
    size = float(values.detach().abs().max())
    rounding = ROUNDINGS * torch.finfo(values.dtype).eps * size / largest
    return rounding**measurement.power


def _largest(values: Tensor) -> float:
    """Return the largest absolute value, in one pass; NaN if there is one."""
    low, high = torch.aminmax(values)
    return float(torch.maximum(-low, high))
