"""Exact sums over samples of |per-sample gradient|, from one backward pass where rules apply.

A worked example: `net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))` on x [4, 2], with trusted
rules for all four parameters.

    forward    capture records use A (0.weight, 0.bias) and use B (2.weight, 2.bias)
    backward   of Σ_n g_n, up to the edges of A and B and no further
               δ_B [4, 1] arrives:  Σ_n |δ_n h_nᵀ| -> 2.weight,  Σ_n |δ_n| -> 2.bias;  B is released
               δ_A [4, 3] arrives:  Σ_n |δ_n x_nᵀ| -> 0.weight,  Σ_n |δ_n| -> 0.bias

The backward pass of the sum gives per-sample gradients because samples do not influence each
other: row n of δ_A is the gradient of g_n alone. What it does not give is computed nowhere: no
gradient of the input, no `.grad` of a parameter, no tensor [4, 3, 2] of per-sample gradients.

The order matters for memory. Asking autograd for δ_A and δ_B at once would hold both until the end.
Instead, only the edges that gradients reach last (here A) are inputs of `torch.autograd.grad`; the
others have a hook on their node, which sums up δ as soon as it arrives. `Graph.lowest` finds the
former.

A weight that is used twice is summed over its uses *before* the absolute value, so its group waits
until both gradients have arrived. Parameters without a trusted rule go to the fallback.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.importance.capture import Use, captured_uses, covered
from growmas.importance.fallback import absolute_sums_by_sample
from growmas.importance.gradients import Gradient, PerSample
from growmas.importance.graph import Graph
from growmas.importance.measurement import Measurement, check_company

CHUNK_ELEMENTS = 2**23
"""Elements of per-sample tensors held at a time: 32 MiB in float32."""

Source = tuple[tuple[Use, str], ...]
"""Every use of a parameter, each with the name of the argument."""


@dataclass(frozen=True)
class Trust:
    """The rules that agreed with automatic differentiation on a few samples.

    Attributes:
        names: Parameters whose rules agreed.
        arrangements: The arrangement of samples in each recorded use, in order.
    """

    names: frozenset[str]
    arrangements: tuple[str, ...]


def absolute_sums(
    measurement: Measurement,
    batch: Any,
    trust: Trust,
    where: str,
    into: Mapping[str, Tensor] | None = None,
    *,
    seen: Tensor | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Return Σ_n (1/K) Σ_k |∂ objective[n, k] / ∂θ| by parameter, and the number of samples.

    Args:
        measurement: Model, parameters, forward and objective.
        batch: One batch on the model's device.
        trust: The rules that may be used.
        where: Name of the batch in errors.
        into: Tensors to which the results of rules are added, if every dtype fits; they are then
            not returned.
        seen: The objective of the first samples of this batch, without the others.
    """
    with captured_uses(measurement) as uses:
        values = measurement.values(batch, where)
    if seen is not None:
        check_company(seen, values)
    graph, samples = Graph(values), len(values)
    sources: dict[str, Source] = {}
    arrangement = dict(zip(uses, trust.arrangements, strict=False))
    if len(uses) == len(trust.arrangements):
        sources = {
            name: source
            for name, source in covered(measurement, uses, graph, samples).items()
            if name in trust.names
            and all(arrangement[use] in use.arrangements(samples) for use, _ in source)
        }
    fits = into is not None and all(
        into[n].dtype == measurement.parameters[n].dtype for n in sources
    )
    sums = sums_by_rule(
        measurement, sources, values, graph, arrangement, into=into if fits else None, forget=True
    )
    rest = {n: p for n, p in measurement.parameters.items() if n not in sources}
    if rest:
        sums |= absolute_sums_by_sample(measurement, rest, batch, CHUNK_ELEMENTS // values.shape[1])
    return sums, samples


def sums_by_rule(
    measurement: Measurement,
    sources: Mapping[str, Source],
    values: Tensor,
    graph: Graph,
    arrangement: Mapping[Use, str],
    *,
    into: Mapping[str, Tensor] | None = None,
    forget: bool = False,
) -> dict[str, Tensor]:
    """Return the sums for parameters of which every use is known; one backward pass per column.

    Args:
        measurement: The parameters.
        sources: The uses of each parameter.
        values: The objective, [N, K].
        graph: Graph of `values`.
        arrangement: Use -> arrangement of its samples.
        into: Contiguous tensors to which sums are added instead of being returned, if K is 1.
        forget: True if graph and uses are not needed again.
    """
    columns = values.shape[1]
    in_place = into is not None and columns == 1
    sums = (
        into
        if into is not None and in_place
        else {
            name: torch.zeros(p.shape, dtype=p.dtype, device=p.device)
            for name, p in measurement.parameters.items()
            if name in sources
        }
    )
    groups = _by_uses(sources)
    for column in range(columns if groups else 0):
        last = forget and column == columns - 1
        passing = _Passing(groups, arrangement, len(values), sums, last)
        _backward(values[:, column].sum(), graph, passing, keep_graph=not last)
    if columns > 1:
        sums = {name: total / columns for name, total in sums.items()}
    return {} if in_place else dict(sums)


def _backward(value: Tensor, graph: Graph, passing: "_Passing", *, keep_graph: bool) -> None:
    """Give the gradient at every use to `passing` when it arrives; compute no other gradient."""
    uses = passing.uses
    lowest = graph.lowest({use.edge.node for use in uses})
    last = [use for use in uses if use.edge.node in lowest]
    hooks = [
        use.edge.node.register_prehook(
            lambda deltas, use=use: passing.arrive(use, deltas[use.edge.output_nr])
        )
        for use in uses
        if use.edge.node not in lowest
    ]
    try:
        edges = [use.edge for use in last]
        deltas = torch.autograd.grad(value, edges, retain_graph=keep_graph, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    for use, delta in zip(last, deltas, strict=True):
        passing.arrive(use, delta)
    passing.finish()


class _Passing:
    """The gradients of one backward pass, summed up as soon as all uses of a parameter arrived.

    Nothing is held longer than that, so that a pass takes little more memory than an ordinary one.
    """

    def __init__(
        self,
        groups: Iterable[list[tuple[str, Source]]],
        arrangement: Mapping[Use, str],
        samples: int,
        sums: Mapping[str, Tensor],
        forget: bool,
    ) -> None:
        self._arrangement = arrangement
        self._samples = samples
        self._sums = sums
        self._forget = forget
        self._delta: dict[Use, Tensor] = {}
        self._groups: dict[Use, list[list[tuple[str, Source]]]] = {}
        for group in groups:
            for use in _uses_of(group):
                self._groups.setdefault(use, []).append(group)

    @property
    def uses(self) -> list[Use]:
        """Uses whose gradients are still expected."""
        return list(self._groups)

    def arrive(self, use: Use, delta: Tensor | None) -> None:
        """Process the gradient at the output of `use`; None stands for zero."""
        if delta is None:
            return
        self._delta[use] = delta
        for group in list(self._groups[use]):
            if all(other in self._delta for other in _uses_of(group)):
                self._add_up(group)

    def finish(self) -> None:
        """Sum up groups of which some uses are not reached by any gradient."""
        for use in list(self._delta):
            for group in list(self._groups.get(use, ())):
                self._add_up(group)

    def _add_up(self, group: list[tuple[str, Source]]) -> None:
        uses = _uses_of(group)
        present = [use for use in uses if use in self._delta]
        for cut in self._cuts(group, present):
            found = self._found(present, cut)
            for name, source in group:
                parts = [found[use][argument] for use, argument in source if use in found]
                _joined(parts, self._sums[name]).add_absolute(self._sums[name])
        for use in uses:
            self._groups[use].remove(group)
            if not self._groups[use]:
                self._delta.pop(use, None)
                if self._forget:
                    use.forget()

    def _found(self, uses: list[Use], cut: slice) -> dict[Use, dict[str, Gradient]]:
        return {
            use: use.gradients(self._delta[use], self._arrangement[use], self._samples, cut)
            for use in uses
        }

    def _cuts(self, group: list[tuple[str, Source]], uses: list[Use]) -> list[slice]:
        """Return slices of samples whose factors and products fit into CHUNK_ELEMENTS."""
        single = all(
            self._delta[use].dim() == 2 and self._arrangement[use] == "first" for use in uses
        )
        if single and len(uses) == 1:
            return [slice(None)]  # one position each: there is no tensor per sample
        found = self._found(uses, slice(0, 1))
        tables = 0  # elements of whole gradients of one sample, where uses are of several kinds
        for name, source in group:
            parts = [found[use][argument] for use, argument in source if use in found]
            if _mixed(parts):
                tables += (len(parts) + 1) * self._sums[name].numel()
        elements = tables + sum(g.elements for of_use in found.values() for g in of_use.values())
        step = max(1, CHUNK_ELEMENTS // max(1, elements))
        return [slice(start, start + step) for start in range(0, self._samples, step)]


def _uses_of(group: list[tuple[str, Source]]) -> list[Use]:
    return list(dict.fromkeys(use for use, _ in group[0][1]))


def _by_uses(sources: Mapping[str, Source]) -> list[list[tuple[str, Source]]]:
    """Group parameters with the same uses, such as weight and bias: they share the factors."""
    together: dict[tuple[Use, ...], list[tuple[str, Source]]] = {}
    for name, source in sources.items():
        together.setdefault(tuple(use for use, _ in source), []).append((name, source))
    return list(together.values())


def _mixed(parts: list[Gradient]) -> bool:
    """Return True if uses are of several kinds, as of a table that is also a matrix."""
    return len({type(part) for part in parts}) > 1


def _joined(parts: list[Gradient], parameter: Tensor) -> Gradient:
    """Sum the uses of a parameter; as dense gradients if their kinds differ."""
    if _mixed(parts):
        parts = [PerSample(part.dense(parameter)) for part in parts]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.join(part)
    return whole
