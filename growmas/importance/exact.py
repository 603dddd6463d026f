"""Σ over samples of |per-sample gradient|, by rules from one backward pass where rules hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.importance.capture import Use, captured_uses, explained
from growmas.importance.fallback import absolute_sums_by_sample
from growmas.importance.gradients import Gradient, PerSample
from growmas.importance.graph import Graph
from growmas.importance.measurement import Measurement, check_company

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
    *,
    seen: Tensor | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Σ_n (1/K) Σ_k |∂ objective[n, k] / ∂θ| for every parameter, and the number of samples.

    Args:
        asked: Model, parameters, forward and objective.
        batch: One batch on the model's device.
        trust: Which rules may be used.
        where: What to call the batch in errors.
        into: Where to add what rules give, if every dtype fits; it is then not returned.
        seen: The objective of the first samples of this batch without the others.
    """
    with captured_uses(asked) as uses:
        values = asked.values(batch, where)
    if seen is not None:
        check_company(seen, values)
    graph, samples = Graph(values), len(values)
    sources: dict[str, Source] = {}
    arrangement = dict(zip(uses, trust.arrangements, strict=False))
    if len(uses) == len(trust.arrangements):
        sources = {
            name: source
            for name, source in explained(asked, uses, graph, samples).items()
            if name in trust.names
            and all(arrangement[use] in use.arrangements(samples) for use, _ in source)
        }
    fits = into is not None and all(into[n].dtype == asked.parameters[n].dtype for n in sources)
    sums = sums_by_rule(
        asked, sources, values, graph, arrangement, into=into if fits else None, forget=True
    )
    rest = {n: p for n, p in asked.parameters.items() if n not in sources}
    if rest:
        sums |= absolute_sums_by_sample(asked, rest, batch, CHUNK_ELEMENTS // values.shape[1])
    return sums, samples


def sums_by_rule(
    asked: Measurement,
    sources: Mapping[str, Source],
    values: Tensor,
    graph: Graph,
    arrangement: Mapping[Use, str],
    *,
    into: Mapping[str, Tensor] | None = None,
    forget: bool = False,
) -> dict[str, Tensor]:
    """The same sums for parameters whose every use is known; one backward pass per column.

    Args:
        asked: The parameters.
        sources: The uses of each parameter.
        values: The objective, [N, K].
        graph: Of `values`.
        arrangement: Where each use has the samples.
        into: Contiguous tensors to add to instead of returning sums, where K is 1.
        forget: Whether graph and uses are not needed again.
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
    groups = _by_uses(sources)
    for column in range(columns if groups else 0):
        last = forget and column == columns - 1
        passing = _Passing(groups, arrangement, len(values), sums, last)
        _backward(values[:, column].sum(), graph, passing, keep_graph=not last)
    if columns > 1:
        sums = {name: total / columns for name, total in sums.items()}
    return {} if in_place else dict(sums)


def _backward(value: Tensor, graph: Graph, passing: "_Passing", *, keep_graph: bool) -> None:
    """Hand the gradient at every use to `passing` when it comes by; no other is computed."""
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
    """What comes by in one backward pass, summed up as soon as all that belongs together is there.

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
        """The uses still waited for."""
        return list(self._groups)

    def arrive(self, use: Use, delta: Tensor | None) -> None:
        """Take the gradient at the output of `use`; None stands for zero."""
        if delta is None:
            return
        self._delta[use] = delta
        for group in list(self._groups[use]):
            if all(other in self._delta for other in _uses_of(group)):
                self._add_up(group)

    def finish(self) -> None:
        """Sum up what some uses of have not come by, since no gradient reaches them."""
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
        """Runs of samples whose factors and products fit CHUNK_ELEMENTS."""
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
    """Parameters with the same uses, such as weight and bias, together: they share the factors."""
    together: dict[tuple[Use, ...], list[tuple[str, Source]]] = {}
    for name, source in sources.items():
        together.setdefault(tuple(use for use, _ in source), []).append((name, source))
    return list(together.values())


def _mixed(parts: list[Gradient]) -> bool:
    """Whether uses are of several kinds, as of a table that is an embedding and a matrix too."""
    return len({type(part) for part in parts}) > 1


def _joined(parts: list[Gradient], parameter: Tensor) -> Gradient:
    """The sum of a parameter's uses; as whole gradients, sample by sample, where kinds differ."""
    if _mixed(parts):
        parts = [PerSample(part.dense(parameter)) for part in parts]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.join(part)
    return whole
