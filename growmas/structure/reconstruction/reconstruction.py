"""Reconstruction: the effect of removed units is folded into their consumers by least squares.

A layer that reads units computes y = W x + b. Without the units in D it keeps the columns K. What
it lost, r = W_D x_D, is predicted from what it still sees by the ridge regression

    Δ = (C_KK + ρ·tr(C_KK)/|K| · I)⁻¹ C_Kr,    W_K ← W_K + Δᵀ,    b ← b + r̄ − Δᵀ x̄_K,

with C the covariances over samples and positions of unlabelled data, and ρ = 10⁻⁵ + 0.1 (|K|/R)²:
small, unless there are few rows R for the |K| coefficients. It is the refitting of He, Zhang and
Sun (ICCV 2017, §3.1), on a convolution's patches, each tap with coefficients of its own, and on
every pixel if a `Linear` reads a flattened feature map: coefficients shared by taps or pixels lost
13 points more (conv net, mnist5k, 80% removed). A layer without bias gets none: its moments are
then taken about zero.

A worked example. Unit 1 is always twice unit 0, so the layer that reads 10 · u₀ + 1 · u₁ computes
the same as 12 · u₀. Without unit 1, reconstruction adds the missing 2:

    >>> import growmas
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    >>> with torch.no_grad():
    ...     net[0].weight[:] = torch.tensor([[1.0], [2.0]])
    ...     net[1].weight[:] = torch.tensor([[10.0, 1.0]])
    >>> structure = growmas.Structure(net, torch.rand(4, 1))
    >>> edit = structure.apply(growmas.Plan(prune={"0": [1]}), reconstruct=[torch.rand(1000, 1)])
    >>> round(net[1].weight.item(), 2), round(edit.corrections["1.weight"].item(), 2)
    (12.0, 2.0)

**From batches**, consumers are refitted one after another in the order of the forward pass: each on
what it sees after those before it were refitted, towards what it gave in the network before the
edit. So errors do not add up through the layers. **From `ActivationStatistics`**, all are fitted at
once to what they saw when the statistics were taken.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from growmas.batches import Forward, data_that_fits, default_forward
from growmas.errors import DataError, PlanError, SurgeryError
from growmas.moments import Moments
from growmas.preserving import preserving
from growmas.structure.reconstruction.consumers import Consumer, consumers_of
from growmas.structure.reconstruction.statistics import (
    ActivationStatistics,
    check_finite,
    recorded,
    usable,
)
from growmas.structure.units.edit import AxisChange, reindexed
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike

RIDGE = (1e-5, 0.1)
"""Coefficients of ρ = first + second × (|K| / R)², with R = samples × positions."""

Changes = Mapping[str, tuple[AxisChange, ...]]


class Reconstruction:
    """The reconstruction of one edit: prepared before the cut, folded in after it.

    Args:
        structure: The structure before the edit.
        plan: The plan, which says what will be removed.
        source: Statistics, batches, or None for no reconstruction.
        forward: (model, batch) -> output, for another kind of batch.

    Raises:
        SurgeryError: A consumer of a removed unit cannot be refitted.
        DataError: The statistics are of another width.
        PlanError: The plan also widens a residual path that norms read.
    """

    def __init__(
        self,
        structure: StructureLike,
        plan: Plan,
        source: Iterable[Any] | ActivationStatistics | None,
        forward: Forward | None = None,
    ) -> None:
        wide = [name for name in plan.added if structure.groups[name].residual]
        if source is not None and plan.removed and wide:
            raise PlanError(
                f"reconstruct= cannot be combined with growing {', '.join(map(repr, wide))}, whose "
                "fresh units are computed from rows that reconstruction changes: make it two plans"
            )
        self._model = structure.model
        self._edges = structure.edges()
        self._forward = forward or default_forward
        self._was: dict[str, tuple[Tensor, Tensor]] = {}
        shrinking = {name: structure.groups[name] for name in plan.removed}
        self._groups = consumers_of(self._model, shrinking if source is not None else {})
        self._consumers = {each.layer: each for group in self._groups.values() for each in group}
        _check_refittable(self._consumers.values())
        self._weights = {n: each.module.weight.detach() for n, each in self._consumers.items()}
        self._known: Mapping[str, Moments] | None = None
        if isinstance(source, ActivationStatistics):
            source.check_current()
            self._known = source.moments
        elif source is not None and self._consumers:
            self._batches = list(source) if isinstance(source, Iterator) else source
            self._before = copy.deepcopy(self._model).eval()

    def fold(self, changes: Changes) -> dict[str, Tensor]:
        """Refit the consumers of the network after the cut.

        Args:
            changes: Qualified parameter name -> changes of its axes, as cut.

        Returns:
            Qualified parameter name -> what was added to it, of its shape after the cut.

        Raises:
            DataError: No data, bad data, or no statistics for any consumer of a group.
        """
        if not self._consumers:
            return {}
        if self._known is None:
            refitted = self._fit_in_turn(changes)
        else:
            refitted = self._fit_at_once(self._known, changes)
        for name, group in self._groups.items():
            if not refitted.intersection(consumer.layer for consumer in group):
                layers = ", ".join(repr(consumer.layer) for consumer in group)
                raise DataError(
                    f"no sample reached {layers}, which read {name!r}: reconstruct= needs at "
                    "least one batch with one sample that goes through one of them"
                )
        tensors = dict(self._model.named_parameters())
        return {name: tensors[name].detach() - was for name, (_, was) in self._was.items()}

    def undo(self) -> None:
        """Take back what was folded in, exactly."""
        with torch.no_grad():
            for tensor, was in self._was.values():
                tensor.copy_(was)

    def _fit_at_once(self, known: Mapping[str, Moments], changes: Changes) -> set[str]:
        """Fit every consumer to what removed units gave it when the statistics were taken."""
        seen = {name for name in self._consumers if name in known and known[name].count}
        for name in seen:
            consumer, source = self._consumers[name], _source(self._consumers[name], changes)
            kept = source[source >= 0]
            # Only rows are re-indexed: the columns are those of the statistics, removed ones too.
            others = tuple(c for c in changes[consumer.weight] if c.dim != consumer.dim)
            matrix = consumer.matrix(reindexed(self._weights[name], others)).double()
            matrix = matrix.index_fill(2, kept, 0.0)  # W_D
            self._fold(consumer, source, known[name].with_products(matrix), kept)
        return seen

    def _fit_in_turn(self, changes: Changes) -> set[str]:
        """Fit the consumers one after another to what they gave before the edit."""
        seen = set()
        for stage in self._stages():
            moments = self._missing_moments(stage, changes)
            check_finite(moments)
            for name, found in moments.items():
                source = _source(self._consumers[name], changes)
                kept = (source >= 0).nonzero().squeeze(1)
                self._fold(self._consumers[name], source, found, kept)
                seen.add(name)
        return seen

    def _stages(self) -> Iterator[list[str]]:
        """Yield consumers in the order of the forward pass; those of one stage are independent."""
        graph = nx.DiGraph(self._edges)
        graph.add_nodes_from(self._consumers)
        below = {name: nx.descendants(graph, name) for name in self._consumers}
        left = list(self._consumers)
        while left:
            later = set().union(*(below[name] for name in left))
            # In a cycle (a recurrent network) every consumer is after another: take them together.
            stage = [name for name in left if name not in later] or left
            yield stage
            left = [name for name in left if name not in stage]

    def _missing_moments(self, stage: list[str], changes: Changes) -> dict[str, Moments]:
        """Return the moments of what each consumer sees now and of what its output misses."""
        found: dict[str, Moments] = {}
        now = {name: self._consumers[name].module for name in stage}
        was = {name: self._before.get_submodule(name) for name in stage}
        with preserving(self._model), torch.no_grad(), recorded(now) as calls, recorded(was) as old:
            for batch in usable(self._batches, self._model):
                with data_that_fits():
                    self._forward(self._before, batch)
                self._forward(self._model, batch)
                for name in stage:
                    consumer = self._consumers[name]
                    for (seen, given), (_, wanted) in zip(calls[name], old[name], strict=True):
                        missing = consumer.outputs(_missing(consumer, given, wanted, changes))
                        for part in _joint_moments(consumer, seen, missing):
                            found[name] = found[name] + part if name in found else part
                    calls[name].clear()
                    old[name].clear()
        return found

    def _fold(self, consumer: Consumer, source: Tensor, moments: Moments, kept: Tensor) -> None:
        """Add Δ to the kept columns of a consumer, and r̄ − Δᵀ x̄_K to its bias.

        Args:
            consumer: The consumer, after the cut.
            source: [F], old feature at each of its features, −1 for a fresh one.
            moments: Of features and of what the output lacks.
            kept: Indices of the kept features in the moments.
        """
        weight, bias = consumer.module.weight, consumer.module.bias
        seen = moments.to(weight.device)
        delta = ridge_solution(seen if bias is not None else seen.about_zero(), kept)
        matrix = delta.new_zeros(len(delta), delta.shape[-1], len(source))
        matrix[..., source >= 0] = delta.mT
        self._add(consumer.weight, weight, consumer.weight_of(matrix))
        if bias is not None:
            explained = (delta.mT @ seen.mean[:, kept, None]).squeeze(-1)
            unexplained = seen.mean[:, seen.features :] - explained
            self._add(f"{consumer.layer}.bias", bias, unexplained.flatten())

    def _add(self, name: str, tensor: Tensor, correction: Tensor) -> None:
        self._was[name] = (tensor, tensor.detach().clone())
        with torch.no_grad():
            tensor += correction.to(tensor)


def ridge_solution(moments: Moments, kept: Tensor) -> Tensor:
    """Return Δ of the ridge regression of r on the kept features, [G, |K|, O].

    Args:
        moments: Of all features and of r as their targets.
        kept: Indices of the kept features, K.
    """
    rows = moments.scatter[:, kept]
    gram, target = rows[..., kept], rows[..., moments.features :]
    ridge = RIDGE[0] + RIDGE[1] * (len(kept) / moments.count) ** 2
    level = ridge * gram.diagonal(dim1=1, dim2=2).mean(1)
    level = torch.where(level > 0, level, 1.0)  # features that are constant
    identity = torch.eye(len(kept), dtype=gram.dtype, device=gram.device)
    solution: Tensor = torch.linalg.solve(gram + level[:, None, None] * identity, target)
    return solution


def _joint_moments(consumer: Consumer, seen: Tensor, missing: Tensor) -> Iterator[Moments]:
    """Yield the moments of features and targets of one call, chunk by chunk."""
    start = 0
    for rows in consumer.rows(seen):
        stop = start + rows.shape[1]
        yield Moments.of(torch.cat([rows, missing[:, start:stop]], dim=-1), consumer.features)
        start = stop


def _missing(consumer: Consumer, given: Tensor, old: Tensor, changes: Changes) -> Tensor:
    """Return the difference of each output channel to what it was; 0 for fresh channels."""
    axis = given.dim() - consumer.module.weight.dim() + 1
    others = (c for c in changes[consumer.weight] if c.dim != consumer.dim)
    along = tuple(replace(change, dim=axis) for change in others)
    return reindexed(old, along, fresh=given) - given


def _source(consumer: Consumer, changes: Changes) -> Tensor:
    """Return the old feature at each feature of a consumer, −1 for a fresh one."""
    (along,) = (c.source for c in changes[consumer.weight] if c.dim == consumer.dim)
    return consumer.of_channels(along).to(consumer.module.weight.device)


def _check_refittable(found: Iterable[Consumer]) -> None:
    """Refuse consumers that cannot be refitted, with the reason of each."""
    problems = [f"{r.layer!r} ({r.problem})" for r in found if r.problem]
    if problems:
        raise SurgeryError(
            f"reconstruct= cannot refit {', '.join(problems)}: prune the units they read in a "
            "plan of their own, without reconstruct= (PrunePolicy: reconstruct=False)"
        )
