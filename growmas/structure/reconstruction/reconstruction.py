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

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from growmas.batches import Forward, default_forward
from growmas.errors import DataError, PlanError, SurgeryError
from growmas.moments import Moments
from growmas.structure.reconstruction.consumers import Consumer, consumers_of
from growmas.structure.reconstruction.endings import Ending, Norm, endings
from growmas.structure.reconstruction.fitting import RIDGE as RIDGE, Fit, ridged
from growmas.structure.reconstruction.passes import measured
from growmas.structure.reconstruction.sequential import (
    Changes,
    Corrections,
    SequentialRepair,
    tensor_names,
    write_fit,
)
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.units.edit import reindexed
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike


class Reconstruction:
    """The reconstruction of one edit: prepared before the cut, folded in after it.

    Args:
        structure: The structure before the edit.
        plan: The plan, which says what will be removed.
        source: Statistics, batches, or None for no reconstruction.
        forward: (model, batch) -> output, for another kind of batch.
        run: Runs the network on example inputs; None takes norms behind layers for unknown.

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
        *,
        run: Callable[[], Any] | None = None,
    ) -> None:
        wide = [name for name in plan.added if structure.groups[name].residual]
        if source is not None and plan.removed and wide:
            raise PlanError(
                f"reconstruct= cannot be combined with growing {', '.join(map(repr, wide))}, whose "
                "fresh units are computed from rows that reconstruction changes: make it two plans"
            )
        self._model = structure.model
        self._corrections = Corrections()
        self._edges, self._run, self._keep = structure.edges(), run, bool(structure.norms)
        self._shrinking = {name: structure.groups[name] for name in plan.removed}
        self._groups = consumers_of(self._model, self._shrinking if source is not None else {})
        self._consumers = {each.layer: each for group in self._groups.values() for each in group}
        self._known = source if isinstance(source, ActivationStatistics) else None
        unseen = {} if self._known is None else self._known.skipped
        _check_refittable(self._consumers.values(), unseen)
        self._weights = {n: each.module.weight.detach() for n, each in self._consumers.items()}
        if isinstance(source, ActivationStatistics):
            source.check_current()
        elif source is not None and self._consumers:
            self._in_turn = SequentialRepair(
                self._model,
                self._consumers,
                structure.edges(),
                source,
                forward or default_forward,
                keep_statistics=self._keep,
            )

    def fold(self, changes: Changes) -> dict[str, Tensor]:
        """Refit the consumers of the network after the cut.

        Args:
            changes: Qualified parameter name -> changes of its axes, as cut.

        Returns:
            Qualified parameter name -> what was added to it, of its shape after the cut.

        Raises:
            DataError: No data, bad data, no statistics for any consumer of a group, or statistics
                that do not suffice for a residual stream.
        """
        if not self._consumers:
            return {}
        if self._known is None:
            refitted = self._in_turn.fold(changes, self._corrections)
        else:
            refitted = self._fit_at_once(self._known, changes)
        for name, group in self._groups.items():
            if not refitted.intersection(consumer.layer for consumer in group):
                layers = ", ".join(repr(consumer.layer) for consumer in group)
                raise DataError(
                    f"no sample reached {layers}, which read {name!r}: reconstruct= needs at "
                    "least one batch with one sample that goes through one of them"
                )
        return self._corrections.differences()

    def undo(self) -> None:
        """Take back what was folded in, exactly."""
        self._corrections.undo()

    def _fit_at_once(self, known: ActivationStatistics, changes: Changes) -> set[str]:
        """Fit every consumer to what removed units gave it when the statistics were taken."""
        moments = known.moments
        seen = {name for name in self._consumers if name in moments and moments[name].count}
        layers = {name: self._consumers[name].module for name in seen}
        after = {}
        if self._run is not None:
            with measured(self._model):
                after = endings(layers, self._run)
        names, errors = tensor_names(self._model), {}
        for name in sorted(seen):
            consumer, norm = self._consumers[name], after.get(name, Ending()).norm
            fit, errors[name] = self._fit(consumer, moments[name], norm, changes)
            write_fit(consumer, norm, fit, names, self._corrections, keep_statistics=self._keep)
        self._check_streams(errors, known.tolerance)
        return seen

    def _fit(
        self, consumer: Consumer, moments: Moments, norm: Norm | None, changes: Changes
    ) -> tuple[Fit, float]:
        """Return the fit of one consumer, and the relative error that it leaves."""
        source = _source(consumer, changes)
        kept = source[source >= 0]
        # Only rows are re-indexed: the columns are those of the statistics, removed ones too.
        others = tuple(c for c in changes[consumer.weight] if c.dim != consumer.dim)
        whole = consumer.matrix(reindexed(self._weights[consumer.layer], others)).double()
        lost = whole.index_fill(2, kept, 0.0)  # W_D
        held = moments.with_products(lost)
        intercept = consumer.module.bias is not None or norm is not None
        seen = held if intercept else held.about_zero()
        delta = ridge_solution(seen, kept)
        wrong = lost.clone()
        wrong[..., kept] = -delta.mT
        scatter = seen.scatter[..., : seen.features]
        given, missed = ((m @ scatter * m).sum().item() for m in (whole, wrong))
        explained = (delta.mT @ held.mean[:, kept, None]).squeeze(-1)
        shift = held.mean[:, held.features :] - explained
        weight = delta.new_zeros(len(delta), len(source), delta.shape[-1])
        weight[:, source >= 0] = delta
        mean = held.mean.new_zeros(len(delta), len(source))
        mean[:, source >= 0] = held.mean[:, kept]
        gram = held.scatter[:, kept[:, None], kept] / held.count

        def variance(matrix: Tensor) -> Tensor:
            old = matrix[..., source >= 0]
            return ((old @ gram) * old).sum(-1).clamp(min=0)

        if norm is not None:
            gain = norm.gain.view(len(delta), 1, -1)
            weight, shift = weight * gain, shift * gain[:, 0]
        return Fit(weight, shift if intercept else shift * 0, mean, variance), missed / (
            given or 1.0
        )

    def _check_streams(self, errors: Mapping[str, float], tolerance: float) -> None:
        """Refuse a fit at once where errors would add up along a residual stream.

        Raises:
            DataError: Names the stream with the largest error, and the error.
        """
        graph = nx.DiGraph(self._edges)
        worst = {}
        for name, consumers in self._groups.items():
            readers = [consumer for consumer in consumers if consumer.layer in errors]
            nodes = [consumer.node or consumer.layer for consumer in readers]
            if readers and _is_stream(graph, self._shrinking[name], nodes):
                worst[name] = max(errors[reader.layer] for reader in readers)
        broken = {name: error for name, error in worst.items() if error > tolerance}
        if broken:
            name = max(broken, key=broken.__getitem__)
            raise DataError(
                f"reconstruct=statistics: layers that read the residual stream {name!r} would be "
                f"off by {broken[name]:.1%} of their output, more than {tolerance:.0%}, and such "
                "errors add up from block to block, which statistics cannot see; give batches, "
                "reconstruct=batches, remove fewer units at once, or raise "
                "ActivationStatistics(structure, tolerance=...)"
            )


def _is_stream(graph: "nx.DiGraph[str]", group: UnitGroup, readers: Iterable[str]) -> bool:
    """Return True if a layer adds to the units of a group after another has read them."""
    writers = {m.layer for m in group.members if m.side == "out" and m.axes.produces}
    below = (nx.descendants(graph, reader) for reader in readers if reader in graph)
    return any(writers & found for found in below)


def ridge_solution(moments: Moments, kept: Tensor) -> Tensor:
    """Return Δ of the ridge regression of r on the kept features, [G, |K|, O].

    Args:
        moments: Of all features and of r as their targets.
        kept: Indices of the kept features, K.
    """
    rows = moments.scatter[:, kept]
    gram, target = rows[..., kept], rows[..., moments.features :]
    gram = ridged(gram, moments.count)
    solution: Tensor = torch.linalg.solve(gram, target)
    return solution


def _source(consumer: Consumer, changes: Changes) -> Tensor:
    """Return the old feature at each feature of a consumer, −1 for a fresh one."""
    (along,) = (c.source for c in changes[consumer.weight] if c.dim == consumer.dim)
    return consumer.of_channels(along).to(consumer.module.weight.device)


def _check_refittable(found: Iterable[Consumer], skipped: Mapping[str, str]) -> None:
    """Refuse consumers that cannot be refitted, or have no statistics, with the reason of each."""
    reasons = ((each.layer, each.problem or skipped.get(each.layer)) for each in found)
    problems = [f"{layer!r} ({reason})" for layer, reason in reasons if reason]
    if problems:
        raise SurgeryError(
            f"reconstruct= cannot refit {', '.join(problems)}: prune the units they read in a "
            "plan of their own, without reconstruct= (PrunePolicy: reconstruct=False)"
        )
