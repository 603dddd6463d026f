"""Probe: a check of the rules on two samples, before they are used on all.

A worked example: `net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))` on a batch [256, 2].

1. The first two samples go through the network together. Capture records two uses of `linear`.
2. Automatic differentiation gives the gradients of g₁ and g₂ in this batch of two, and those of
   each sample in a batch of its own. They must agree: if the gradient of one sample depends on
   the other, as with batch statistics, a per-sample gradient does not exist, and the measurement
   is refused.
3. The rules give Σ_n |gradient| of the two samples for 0.weight, 0.bias, 2.weight and 2.bias. It is
   compared with |∇g₁| + |∇g₂| from step 2. A parameter whose sums agree is trusted to its rule;
   the others go to the fallback, whatever the reason (a wrong rule, a subclass that computes
   something else).

A use may have its samples elsewhere than in dimension 0. A network that reshapes tokens
[2, 5, 2] to [10, 2] before its linear layer, or transposes them to [5, 2, 2], gives rows that must
be assigned to samples. `Use.arrangements` lists what the shapes allow; the probe tries them in
order of likelihood, and keeps the one with which the sums come out right.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from growmas.batches import batch_size, cut
from growmas.errors import ImportanceError
from growmas.importance.capture import Use, captured_uses, covered
from growmas.importance.exact import Trust, sums_by_rule
from growmas.importance.fallback import gradients_of, gradients_one_by_one
from growmas.importance.graph import Graph
from growmas.importance.measurement import (
    TOLERANCE,
    Measurement,
    check_finite,
    samples_interact,
)

ROUNDINGS = 100
"""Gradients below this many rounding errors count as 0; `_rounding` has the formula."""


def trusted_rules(measurement: Measurement, batch: Any) -> tuple[Trust, Tensor]:
    """Check the rules against automatic differentiation on the first two samples of `batch`.

    Also compare the gradients of each sample alone with those in the batch of two.

    Returns:
        The rules that may be used, and the objective of the two samples.

    Raises:
        ImportanceError: The samples of a batch influence each other, so that a per-sample
            gradient does not exist.
    """
    size = batch_size(batch)
    piece = batch if size is None else cut(batch, 0, 2)
    with captured_uses(measurement) as uses:
        values = measurement.values(piece, "the first batch")
    rounding = _rounding(measurement, values)
    expected: dict[str, Tensor] = {}
    for position, row in enumerate(values[:2]):
        sample = None if size is None else cut(batch, position, position + 1)
        for name, found in _own_gradients(measurement, row, sample, rounding).items():
            total = found.abs().mean(0) if len(found) > 1 else found[0].abs()
            expected[name] = expected[name].add_(total) if position else total
    return _settle(measurement, uses, values, expected, rounding), values[:2].detach()


def _settle(
    measurement: Measurement,
    uses: list[Use],
    values: Tensor,
    expected: dict[str, Tensor],
    rounding: float,
) -> Trust:
    """Find the arrangement of samples in each use that gives the expected sums."""
    graph = Graph(values)
    sources = covered(measurement, uses, graph, len(values))
    possible = {use: use.arrangements(len(values)) for use in uses}
    chosen = {use: names[0] if names else "first" for use, names in possible.items()}
    counted = torch.cat([values[:2], values[2:] * 0])

    def right(names: Iterable[str]) -> set[str]:
        some = {name: sources[name] for name in names}
        found = sums_by_rule(measurement, some, counted, Graph(counted), chosen)
        return {n for n, total in found.items() if _close(total, expected[n], rounding)}

    trusted = right(sources)
    for use in uses:
        own = [n for n, source in sources.items() if n not in trusted and source[0][0] is use]
        for arrangement in possible[use][1:] if own else ():
            before, chosen[use] = chosen[use], arrangement
            found = right(own)
            trusted |= found
            if len(found) == len(own):
                break
            chosen[use] = before
    return Trust(frozenset(trusted), tuple(chosen[use] for use in uses))


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
    return ROUNDINGS * torch.finfo(values.dtype).eps * float(values.detach().abs().max()) / largest


def _own_gradients(
    measurement: Measurement, row: Tensor, sample: Any | None, rounding: float
) -> dict[str, Tensor]:
    """Return the gradients [K, ...] of one sample, after comparing them with those alone."""
    together = gradients_of(row, measurement.parameters)
    if sample is None:
        check_finite(together)
        return together
    alone = _alone(measurement, sample)
    differing = [n for n, found in together.items() if not _close(found, alone[n], rounding)]
    if differing:
        check_finite(together)
        raise samples_interact("the gradient", f", first for {differing[0]!r}")
    return together


def _alone(measurement: Measurement, sample: Any) -> dict[str, Tensor]:
    try:
        return next(gradients_one_by_one(measurement, measurement.parameters, sample))
    except (RuntimeError, ValueError) as error:
        raise ImportanceError(
            f"a sample by itself does not go through the model ({error}): importance is defined "
            "per sample. Look for a BatchNorm without running statistics, or inputs whose first "
            "dimension is not the samples"
        ) from error


def _close(found: Tensor, expected: Tensor, rounding: float) -> bool:
    if not found.numel():
        return True
    tolerance = TOLERANCE.get(found.dtype, 5e-2)
    return _largest(found - expected) <= tolerance * _largest(expected) + rounding


def _largest(values: Tensor) -> float:
    """Return the largest absolute value, in one pass; NaN if there is one."""
    low, high = torch.aminmax(values)
    return float(torch.maximum(-low, high))
