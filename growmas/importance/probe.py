"""Which rules hold for this model, seen on two samples before they are used on all."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from growmas.errors import ImportanceError
from growmas.importance.batches import batch_size, cut
from growmas.importance.capture import Use, captured_uses, explained
from growmas.importance.exact import Trust, sums_by_rule
from growmas.importance.fallback import gradients_of, gradients_one_by_one
from growmas.importance.graph import Graph
from growmas.importance.measurement import Measurement, check_finite

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference allowed, relative to a parameter's largest gradient; others 5e-2."""

ROUNDINGS = 100
"""Gradients below this many rounding errors are 0 but for rounding; see `_rounding`."""


def trusted_rules(asked: Measurement, batch: Any) -> Trust:
    """Which rules give what automatic differentiation gives.

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
    together = [gradients_of(row, asked.parameters) for row in values[:2]]
    for gradients in together:
        check_finite(gradients)
    rounding = _rounding(asked, values)
    if size is not None:
        for one, other in zip(together, _alone(asked, piece), strict=True):
            _check_independent(one, other, rounding)
    expected = {
        name: torch.stack([g[name].abs().mean(0) for g in together]).sum(0)
        for name in asked.parameters
    }
    return _settle(asked, uses, values, expected, rounding)


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


def _alone(asked: Measurement, piece: Any) -> list[dict[str, Tensor]]:
    try:
        return list(gradients_one_by_one(asked, asked.parameters, piece))
    except (RuntimeError, ValueError) as error:
        raise ImportanceError(
            f"a sample by itself does not go through the model ({error}): importance is defined "
            "per sample. Look for a BatchNorm without running statistics, or inputs whose first "
            "dimension is not the samples"
        ) from error


def _check_independent(
    together: dict[str, Tensor], alone: dict[str, Tensor], rounding: float
) -> None:
    differing = [n for n, found in together.items() if not _close(found, alone[n], rounding)]
    if differing:
        raise ImportanceError(
            "the gradient of one sample depends on the rest of its batch (or the forward pass is "
            f"random), first for {differing[0]!r}: importance is defined per sample. Look for a "
            "BatchNorm without running statistics, a contrast between samples, or dropout that "
            "ignores eval mode; pass function= an objective of each sample by itself"
        )


def _close(found: Tensor, expected: Tensor, rounding: float) -> bool:
    if not found.numel():
        return True
    tolerance = TOLERANCE.get(found.dtype, 5e-2)
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) <= tolerance * largest + rounding
