"""Probe: a check of the rules against automatic differentiation, before they are trusted.

A worked example: `net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))` on a batch [256, 2].

1. The first sample goes through the network alone, and automatic differentiation gives ∇g₁ for
   0.weight, 0.bias, 2.weight and 2.bias. If g₁ is another than in the batch, then samples influence
   each other, as with batch statistics; a per-sample gradient does not exist, and the measurement
   is refused.
2. In the backward pass of the batch, the rules give |∇g₁| by themselves for the rows of the first
   sample. A parameter for which both agree is trusted to its rules.
3. The others are tried again on two other samples that go through the network together and each
   alone: rounding can flip a ReLU whose input is almost 0, and then a gradient differs although
   nothing is wrong. A parameter that fails again goes to the fallback: the rule is wrong, or a
   subclass computes something else.

Rules of a user's own are checked on two samples at once, since a sum over the batch would be right
for one. A parameter that the samples do not reach, such as the weight of an expert, is trusted if
its rules were right for other parameters.
"""

import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from growmas.errors import GrowmasWarning
from growmas.importance.company import alone, check_alone
from growmas.importance.cutting import Cutting, some_of
from growmas.importance.exact import sums_by_rule
from growmas.importance.fallback import gradients_of
from growmas.importance.gradients import magnitude
from growmas.importance.measurement import TOLERANCE, Measurement, check_finite
from growmas.importance.operations import Rule
from growmas.importance.recording import Recording, Source, record
from growmas.importance.sketch import BLOCK, Sketch, largest, sketch, sketched_gradients
from growmas.importance.sums import running_dtype

ROUNDINGS = 100
"""Gradients below this many rounding errors count as 0; `_rounding` has the formula."""

COLUMNS = 4
"""Number of columns of the objective that the probe differentiates."""

PRECISE = 1e-3
"""Tolerance up to which gradients are compared by sketches; coarser ones are compared whole."""


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

    @classmethod
    def of(cls, right: Set[str], wrong: Set[str], sources: Mapping[str, Source]) -> "Trust":
        """Name the rules of the parameters that were right, unless they were wrong for others."""
        rules = {use.rule for name in right for use, _ in sources[name]}
        rules -= {use.rule for name in wrong for use, _ in sources[name]}
        return cls(frozenset(right), frozenset(wrong), frozenset(rules))

    def mended_by(self, again: "Trust") -> "Trust":
        """Return the trust after another check, which may only clear what was wrong."""
        mended = self.wrong & again.right
        rules = self.rules | (again.rules if mended == self.wrong else frozenset())
        right = self.right | mended | (again.right - self.wrong)
        return Trust(right, self.wrong - mended, rules)

    def warn(self) -> None:
        """Warn of rules that differed from automatic differentiation."""
        if self.wrong:
            names = ", ".join(sorted(self.wrong)[:5]) + (", ..." if len(self.wrong) > 5 else "")
            warnings.warn(
                f"for {names} the rules gave another gradient than automatic differentiation, on "
                "several samples: they are measured sample by sample, which is slower. Either a "
                "rule of register_rule is wrong, or inputs of ReLUs are so near 0 that rounding "
                "decides; in float64 (model.double()) it does not",
                GrowmasWarning,
                stacklevel=2,
            )

    def covers(self, name: str, source: Source) -> bool:
        """Return True if a parameter may be measured by the rules of its uses."""
        if name in self.right or name in self.wrong:
            return name in self.right
        return all(use.rule in self.rules for use, _ in source)


@dataclass(eq=False)
class Witness:
    """The first sample of a batch alone, whose gradients the rules must give as well.

    Attributes:
        measurement: Model, parameters and objective.
        sources: The uses of each parameter in the whole batch.
        values: The objective of the sample alone, [1, K].
        expected: Parameter name -> sketches of its gradients, of the first columns.
        coarse: Names of parameters whose sketches are the gradients themselves.
        right: Names for which the rules agreed in every column that is not 0.
        wrong: Names for which they did not.
    """

    measurement: Measurement
    sources: Mapping[str, Source]
    values: Tensor
    expected: dict[str, list[Sketch]]
    coarse: frozenset[str]
    right: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)

    sample = slice(0, 1)
    """The sample, as a cut of the batch."""

    @cached_property
    def rounding(self) -> float:
        """Gradients below it count as 0."""
        return _rounding(self.measurement, self.values)

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        cutting: Cutting,
        whole: Recording,
        sources: dict[str, Source],
    ) -> "Witness":
        """Send the first sample of a batch through the model alone.

        Raises:
            ImportanceError: Its objective depends on the other samples.
        """
        values = some_of(measurement, cutting, cls.sample)
        together = whole.values.detach().clone()
        together[cls.sample] = values.detach()
        check_alone(measurement, together, whole.values)
        parameters = {name: measurement.parameters[name] for name in sources}
        coarse = frozenset(n for n in sources if _tolerance(measurement, n, values) > PRECISE)
        row = values[0, :COLUMNS]
        expected = sketched_gradients(row, parameters, measurement.power, coarse)
        return cls(measurement, sources, values.detach(), expected, coarse)

    def expects(self, column: int) -> bool:
        """Return True if a column of the objective is checked."""
        return column < COLUMNS

    def compare(self, name: str, column: int, found: Tensor) -> None:
        """Compare |gradient|^power of the sample as a rule gives it."""
        wanted = self.expected[name][column]
        off = sketch(found, 1, whole=name in self.coarse).difference(wanted)
        bound = _tolerance(self.measurement, name, self.values) * wanted.size
        if not (off <= bound or off <= bound + self._rounding_of(name)):
            self.wrong.add(name)
        elif wanted.size > 0:
            self.right.add(name)

    def _rounding_of(self, name: str) -> float:
        """Return what rounding makes of a gradient of 0 in its sketch; sums have more of it."""
        return self.rounding * (1.0 if name in self.coarse else BLOCK**0.5)

    def trust(self) -> Trust:
        """Return what is settled once the backward pass of the batch has ended."""
        unseen = self.sources.keys() - self.right - self.wrong
        sizes = {n: max((s.size for s in self.expected[n]), default=0.0) for n in unseen}
        lost = {n for n, size in sizes.items() if size > 0 and size > self.rounding}
        wrong = self.wrong | lost
        return Trust.of(self.right - wrong, wrong, self.sources)


def witness_of(
    measurement: Measurement,
    cutting: Cutting | None,
    whole: Recording,
    sources: dict[str, Source],
) -> Witness | None:
    """Return the first sample alone; None if the rules must be checked on two samples."""
    own = any("layer" in use.bound for source in sources.values() for use, _ in source)
    return None if cutting is None or own else Witness.of(measurement, cutting, whole, sources)


def second_opinion(measurement: Measurement, cutting: Cutting | None, trust: Trust) -> Trust:
    """Try parameters for which rules were not right, or not tried, on two other samples."""
    if cutting is None or cutting.samples < 3:
        return trust
    again = _checked_pair(measurement, cutting, 1).trust()
    return trust.mended_by(again)


def trusted_rules(
    measurement: Measurement, batch: Any, cutting: Cutting | None, whole: Recording
) -> Trust:
    """Check the rules against automatic differentiation on the first two samples of a batch.

    Args:
        measurement: Model, parameters, forward and objective.
        batch: The batch.
        cutting: The way to take samples out of it; None if there is none.
        whole: A forward pass of the batch.

    Returns:
        The rules that may be used.

    Raises:
        ImportanceError: The samples of a batch influence each other, so that a per-sample
            gradient does not exist.
    """
    if cutting is None:
        return _Check(measurement, whole, batch, None).trust()
    first = _checked_pair(measurement, cutting, 0)
    trust, seen = first.trust(), first.recording.values.detach()
    together = whole.values.detach().clone()
    together[: len(seen)] = seen
    check_alone(measurement, together, whole.values)
    if trust.wrong and cutting.samples >= 4:
        trust = trust.mended_by(_checked_pair(measurement, cutting, 2).trust())
    return trust


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
        right = set()
        for name, total in found.items():
            wanted = expected[name]
            tolerance = _tolerance(self._measurement, name, values)
            if largest(total.sub_(wanted)) <= tolerance * largest(wanted) + rounding:
                right.add(name)
        return Trust.of(right, found.keys() - right, self._sources)

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


def _tolerance(measurement: Measurement, name: str, values: Tensor) -> float:
    """Return the largest relative difference between the gradients of a parameter.

    Under autocast a model computes in a coarser dtype than parameters and objective have.
    """
    dtypes = (measurement.parameters[name].dtype, values.dtype, *measurement.dtypes)
    return max(TOLERANCE.get(dtype, 5e-2) for dtype in dtypes)


def _rounding(measurement: Measurement, values: Tensor) -> float:
    """Return the size of gradients that rounding alone produces, for instance by cancellation.

    A relative change ε of a parameter θ or of what flows changes the objective g by about ε g, as
    would a gradient of ε g / θ. The bias of attention keys, a bias before an InstanceNorm and the
    squared norm of a normalised output have a gradient of 0; rounding makes it about this large.
    """
    weights = [p.detach() for p in measurement.parameters.values()]
    most = max((largest(weight) for weight in weights), default=0.0)
    if not most:
        return 0.0
    size = float(values.detach().abs().max())
    rounding = ROUNDINGS * torch.finfo(values.dtype).eps * size / most
    return rounding**measurement.power
