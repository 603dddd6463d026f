"""Σ over samples of |per-sample gradient|, by rules from one backward pass where rules hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.importance.capture import Use, captured_uses, explained
from growmas.importance.fallback import absolute_sums_by_sample
from growmas.importance.gradients import Gradient, PerSample
from growmas.importance.measurement import Measurement

CHUNK_ELEMENTS = 2**23
"""Elements of per-sample tensors held at a time: 32 MiB in float32."""

Source = tuple[tuple[Use, str], ...]
"""Every use of one parameter, with the name of the argument."""


@dataclass(frozen=True)
class Trust:
    """Which rules were seen to hold, on a few samples.

    Attributes:
        names: Parameters for which they did.
        arrangements: For each recorded use, in order, where it has the samples.
    """

    names: frozenset[str]
    arrangements: tuple[str, ...]


def absolute_sums(
    asked: Measurement,
    batch: Any,
    trust: Trust,
    where: str,
    into: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Σ_n (1/K) Σ_k |∂ objective[n, k] / ∂θ| for every parameter, and the number of samples.

    Args:
        asked: Model, parameters, forward and objective.
        batch: One batch on the model's device.
        trust: Which rules may be used.
        where: What to call the batch in errors.
        into: Where to add what rules give, if every dtype fits; it is then not returned.
    """
    with captured_uses(asked) as uses:
        values = asked.values(batch, where)
    sources: dict[str, Source] = {}
    arrangement = dict(zip(uses, trust.arrangements, strict=False))
    if len(uses) == len(trust.arrangements):
        sources = {n: s for n, s in explained(asked, uses, values).items() if n in trust.names}
        sources = {
            name: source
            for name, source in sources.items()
            if all(arrangement[use] in use.arrangements(len(values)) for use, _ in source)
        }
    fits = into is not None and all(into[n].dtype == asked.parameters[n].dtype for n in sources)
    sums = sums_by_rule(asked, sources, values, arrangement, into=into if fits else None)
    rest = {n: p for n, p in asked.parameters.items() if n not in sources}
    if rest:
        sums |= absolute_sums_by_sample(asked, rest, batch, CHUNK_ELEMENTS // values.shape[1])
    return sums, len(values)


def sums_by_rule(
    asked: Measurement,
    sources: Mapping[str, Source],
    values: Tensor,
    arrangement: Mapping[Use, str],
    *,
    keep_graph: bool = False,
    into: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The same sums for parameters whose every use is known; one backward pass per column.

    Args:
        asked: The parameters.
        sources: The uses of each parameter.
        values: The objective, [N, K].
        arrangement: Where each use has the samples.
        keep_graph: Whether the graph is needed again.
        into: Contiguous tensors to add to instead of returning sums, where K is 1.
    """
    columns = values.shape[1]
    in_place = into is not None and columns == 1
    sums = (
        into
        if into is not None and in_place
        else {
            name: torch.zeros(p.shape, dtype=p.dtype, device=p.device)
            for name, p in asked.parameters.items()
            if name in sources
        }
    )
    uses = list(dict.fromkeys(use for source in sources.values() for use, _ in source))
    if not uses:
        return {} if in_place else dict(sums)
    for column in range(columns):
        deltas = torch.autograd.grad(
            values[:, column].sum(),
            [use.edge for use in uses],
            retain_graph=keep_graph or column < columns - 1,
            allow_unused=True,
        )
        delta = {u: d for u, d in zip(uses, deltas, strict=True) if d is not None}
        for together in _by_uses(sources):
            present = [use for use in dict.fromkeys(u for u, _ in together[0][1]) if use in delta]
            for cut in _cuts(present, delta, arrangement, len(values)):
                found = {
                    use: use.gradients(delta[use], arrangement[use], len(values), cut)
                    for use in present
                }
                for name, source in together:
                    parts = [found[use][argument] for use, argument in source if use in found]
                    if parts:
                        _joined(parts, sums[name]).add_absolute(sums[name])
    return {} if in_place else {name: total / columns for name, total in sums.items()}


def _by_uses(sources: Mapping[str, Source]) -> Iterable[list[tuple[str, Source]]]:
    """Parameters with the same uses, such as weight and bias, together: they share the factors."""
    together: dict[tuple[Use, ...], list[tuple[str, Source]]] = {}
    for name, source in sources.items():
        together.setdefault(tuple(use for use, _ in source), []).append((name, source))
    return together.values()


def _joined(parts: list[Gradient], parameter: Tensor) -> Gradient:
    """The sum of a parameter's uses; whole tables where they differ, as in tied embeddings."""
    if len({type(part) for part in parts}) > 1:
        parts = [PerSample(part.dense(parameter)) for part in parts]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.join(part)
    return whole


def _cuts(
    uses: list[Use], delta: Mapping[Use, Tensor], arrangement: Mapping[Use, str], samples: int
) -> list[slice]:
    """Runs of samples whose factors and products fit CHUNK_ELEMENTS."""
    if all(delta[use].dim() == 2 and arrangement[use] == "first" for use in uses):
        return [slice(None)]  # one position each: there is no tensor per sample
    one = slice(0, 1)
    elements = sum(
        gradient.elements
        for use in uses
        for gradient in use.gradients(delta[use], arrangement[use], samples, one).values()
    )
    step = max(1, CHUNK_ELEMENTS // max(1, elements))
    return [slice(start, start + step) for start in range(0, samples, step)]
