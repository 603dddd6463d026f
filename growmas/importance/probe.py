"""Which rules hold for this model, seen on two samples before they are used on all."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from growmas.batches import batch_size, cut
from growmas.errors import ImportanceError
from growmas.importance.capture import Use, captured_uses, explained
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
"""Gradients below this many rounding errors are 0 but for rounding; see `_rounding`."""


def trusted_rules(asked: Measurement, batch: Any) -> tuple[Trust, Tensor]:
    """Which rules give what automatic differentiation gives, and the objective of two samples.

    Compares both on the first two samples of `batch`, and the samples' gradients alone with
    those in company.

    Raises:
        ImportanceError: The samples of a batch influence each other, so that a per-sample
            gradient does not exist.
    """
    size = batch_size(batch)
    piece = batch if size is None else cut(batch, 0, 2)
    with captured_uses(asked) as uses:
        values = asked.values(piece, "the first batch")
    rounding = _rounding(asked, values)
    expected: dict[str, Tensor] = {}
    for position, row in enumerate(values[:2]):
        sample = None if size is None else cut(batch, position, position + 1)
        for name, found in _own_gradients(asked, row, sample, rounding).items():
            total = found.abs().mean(0) if len(found) > 1 else found[0].abs()
            expected[name] = expected[name].add_(total) if position else total
    return _settle(asked, uses, values, expected, rounding), values[:2].detach()


def _settle(
    asked: Measurement,
    uses: list[Use],
    values: Tensor,
    expected: dict[str, Tensor],
    rounding: float,
) -> Trust:
    """Find where each use has the samples, by what comes out right."""
    graph = Graph(values)
    sources = explained(asked, uses, graph, len(values))
    possible = {use: use.arrangements(len(values)) for use in uses}
    chosen = {use: names[0] if names else "first" for use, names in possible.items()}
    counted = torch.cat([values[:2], values[2:] * 0])

    def right(names: Iterable[str]) -> set[str]:
        some = {name: sources[name] for name in names}
        found = sums_by_rule(asked, some, counted, Graph(counted), chosen)
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


def _rounding(asked: Measurement, values: Tensor) -> float:
    """Size of the gradients that rounding alone produces, for instance where true ones cancel.

    A relative change ε of a parameter θ or of what flows changes the objective g by about ε g, as
    would a gradient of ε g / θ. The bias of attention keys, a bias before an InstanceNorm and the
    squared norm of a normalised output have a gradient of 0 and show this one instead.
    """
    weights = [p.detach() for p in asked.parameters.values() if p.numel()]
    largest = max((float(weight.abs().max()) for weight in weights), default=0.0)
    if not largest:
        return 0.0
    return ROUNDINGS * torch.finfo(values.dtype).eps * float(values.detach().abs().max()) / largest


def _own_gradients(
    asked: Measurement, row: Tensor, sample: Any | None, rounding: float
) -> dict[str, Tensor]:
    """Gradients [K, ...] of one sample's scalars, the same as those of the sample by itself."""
    together = gradients_of(row, asked.parameters)
    if sample is None:
        check_finite(together)
        return together
    alone = _alone(asked, sample)
    differing = [n for n, found in together.items() if not _close(found, alone[n], rounding)]
    if differing:
        check_finite(together)
        raise samples_interact("the gradient", f", first for {differing[0]!r}")
    return together


def _alone(asked: Measurement, sample: Any) -> dict[str, Tensor]:
    try:
        return next(gradients_one_by_one(asked, asked.parameters, sample))
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
    """The largest absolute value, in one pass; NaN where there is one."""
    low, high = torch.aminmax(values)
    return float(torch.maximum(-low, high))
