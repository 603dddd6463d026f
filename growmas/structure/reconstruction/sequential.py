"""Repair in turn: layers are refitted in the order of the forward pass, towards the network before.

Each layer is fitted on what it reads after those before it were refitted, together with the norm
that follows it, towards what it gave in the network before the edit; at the end of a residual
branch, towards the old sum without the present skip. So errors do not add up through the layers,
and a branch makes up for what the skip lost.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from growmas.batches import Forward, batch_size, cut, data_that_fits, reusable
from growmas.errors import DataError
from growmas.structure.reconstruction.consumers import Consumer
from growmas.structure.reconstruction.endings import Norm, endings
from growmas.structure.reconstruction.fitting import Fit, fitted, folded_into_norm
from growmas.structure.reconstruction.passes import measured, usable
from growmas.structure.reconstruction.recording import Recorder, Rows, row_limit
from growmas.structure.units.duplicate import duplicate
from growmas.structure.units.edit import AxisChange

Changes = Mapping[str, tuple[AxisChange, ...]]

_REMEMBERED = 2**28
"""Largest number of old results (1 GiB) that are kept at once."""


@dataclass(eq=False)
class Corrections:
    """Tensors that were corrected, with their values before.

    Attributes:
        was: Qualified name -> the tensor, and its values before.
    """

    was: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def write(self, name: str, tensor: Tensor, value: Tensor) -> None:
        """Give a tensor new values."""
        self.was.setdefault(name, (tensor, tensor.detach().clone()))
        with torch.no_grad():
            tensor.copy_(value.reshape(tensor.shape))

    def undo(self) -> None:
        """Give all tensors their values back."""
        with torch.no_grad():
            for tensor, before in self.was.values():
                tensor.copy_(before)

    def differences(self) -> dict[str, Tensor]:
        """Return what was added: qualified name -> tensor."""
        return {name: tensor.detach() - before for name, (tensor, before) in self.was.items()}


class SequentialRepair:
    """Refits the consumers of one edit in turn.

    Args:
        model: The network before the edit, of which a copy is kept.
        consumers: Layer name -> consumer; layers that read units to be removed.
        edges: The data flow from layer to layer.
        batches: Unlabelled data.
        forward: (model, batch) -> output.
        keep_statistics: Leave running statistics of norms as they are, because there are others
            for views of earlier tasks.
    """

    def __init__(
        self,
        model: nn.Module,
        consumers: Mapping[str, Consumer],
        edges: Iterable[tuple[str, str]],
        batches: Iterable[Any],
        forward: Forward,
        *,
        keep_statistics: bool = False,
    ) -> None:
        self._model, self._consumers, self._edges = model, consumers, edges
        self._again = isinstance(batches, list | tuple)
        self._batches = reusable(batches)
        self._again |= isinstance(batches, Iterator)
        self._forward, self._keep = forward, keep_statistics
        self._before = duplicate(model).eval()

    def fold(self, changes: Changes, corrections: Corrections) -> set[str]:
        """Refit the consumers in the network after the cut; return those that data reached.

        Args:
            changes: Qualified parameter name -> changes of its axes, as cut.
            corrections: Takes what is written.

        Raises:
            DataError: A layer reads or gives NaN or infinity.
        """
        first, self._shares = self._survey()
        if not self._shares:
            return set()
        layers = {name: consumer.module for name, consumer in self._consumers.items()}
        with measured(self._model), data_that_fits():
            self._endings = endings(layers, lambda: self._forward(self._model, first))
        names = tensor_names(self._model)
        reached = set()
        for stages in self._portions():
            old = self._old(stages) if self._again else None
            for stage in stages:
                rows, before = self._recorded(stage, old)
                for name in stage:
                    if rows[name].count:
                        self._refit(name, rows[name], before[name], changes, names, corrections)
                        reached.add(name)
        return reached

    def _survey(self) -> tuple[Any, list[float]]:
        """Return a small batch, and each batch's share of the samples."""
        sizes: list[int | None] = []
        first = None
        for batch in usable(self._batches, self._model):
            size = batch_size(batch)
            if not sizes:
                first = batch if size is None else cut(batch, 0, 2)
            sizes.append(size)
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes) or not known:
            return first, [1 / len(sizes) for _ in sizes]
        return first, [size / sum(known) for size in known]

    def _stages(self) -> Iterator[list[str]]:
        """Yield consumers in the order of the forward pass; those of one stage are independent."""
        graph = nx.DiGraph(self._edges)
        nodes = {name: consumer.node or name for name, consumer in self._consumers.items()}
        graph.add_nodes_from(nodes.values())
        for name, ending in self._endings.items():
            graph.add_edges_from((skip, name) for skip in ending.skip)
        below = {name: nx.descendants(graph, node) for name, node in nodes.items()}
        left = list(self._consumers)
        while left:
            later = set().union(*(below[name] for name in left))
            # In a cycle (a recurrent network) every consumer is after another: take them together.
            stage = [name for name in left if nodes[name] not in later] or left
            yield stage
            left = [name for name in left if name not in stage]

    def _portions(self) -> Iterator[list[list[str]]]:
        """Yield stages whose old results can be kept together."""
        portion: list[list[str]] = []
        kept = 0
        for stage in self._stages():
            size = sum(
                row_limit(self._consumers[name]) * self._consumers[name].channels for name in stage
            )
            if portion and (kept + size > _REMEMBERED or not self._again):
                yield portion
                portion, kept = [], 0
            portion.append(stage)
            kept += size
        if portion:
            yield portion

    def _old(self, stages: Collection[list[str]]) -> dict[str, Rows]:
        """Return the results of layers of the network before the edit."""
        recorder = self._recorder([name for stage in stages for name in stage], features=False)
        with measured(self._before), recorder.listening(self._before):
            for batch in usable(self._batches, self._before):
                with data_that_fits():
                    recorder.run(partial(self._forward, self._before, batch))
        return recorder.rows

    def _recorded(
        self, stage: list[str], old: Mapping[str, Rows] | None
    ) -> tuple[Mapping[str, Rows], Mapping[str, Rows]]:
        """Return the rows of a stage's layers now, and their results before the edit."""
        expected = None if old is None else {name: old[name].calls for name in stage}
        now = self._recorder(stage, expected=expected)
        before = self._recorder(stage, features=False)
        with measured(self._model), measured(self._before):
            for batch in usable(self._batches, self._model):
                if old is None:
                    with data_that_fits(), before.listening(self._before):
                        before.run(partial(self._forward, self._before, batch))
                with now.listening(self._model):
                    now.run(partial(self._forward, self._model, batch))
        return now.rows, before.rows if old is None else old

    def _recorder(self, names: Collection[str], **options: Any) -> Recorder:
        consumers = {name: self._consumers[name] for name in names}
        return Recorder(consumers, self._endings, self._shares, **options)

    def _refit(
        self,
        name: str,
        rows: Rows,
        before: Rows,
        changes: Changes,
        names: Mapping[int, str],
        corrections: Corrections,
    ) -> None:
        """Fit one layer, and write its corrections."""
        consumer, ending = self._consumers[name], self._endings[name]
        if consumer.inner:
            seen, now = _as_before(consumer, before, changes)
        else:
            seen, now = torch.cat(rows.seen, 1), _results(rows)
        source = _channel_source(consumer, changes, now.shape[1])
        wanted = _results(before).index_select(1, source.clamp(min=0).to(now.device))
        wanted[:, source < 0] = now[:, source < 0]
        if not (seen.sum() + now.sum() + wanted.sum()).isfinite():  # NaN and infinity carry over
            raise DataError(_not_finite(name))
        blocks, bias = consumer.blocks, consumer.module.bias
        kept = (_feature_source(consumer, changes) >= 0).nonzero().squeeze(1).to(seen.device)
        fit = fitted(
            seen[..., kept],
            _blocked(now, blocks),
            _blocked(wanted, blocks),
            ending.bounds,
            intercept=bias is not None or ending.norm is not None,
        )
        fit = _without_fresh(_spread(fit, kept, consumer.features), _blocked(source[None], blocks))
        write_fit(consumer, ending.norm, fit, names, corrections, keep_statistics=self._keep)


def tensor_names(model: nn.Module) -> dict[int, str]:
    """Return the qualified name of every parameter and buffer by its id."""
    named = (*model.named_parameters(), *model.named_buffers())
    return {id(tensor): name for name, tensor in named}


def write_fit(
    consumer: Consumer,
    norm: Norm | None,
    fit: Fit,
    names: Mapping[int, str],
    corrections: Corrections,
    *,
    keep_statistics: bool,
) -> None:
    """Write a fit into a layer, and into the norm that follows it.

    Args:
        consumer: The layer.
        norm: The norm, whose results were fitted; None if the layer's own were.
        fit: What to add.
        names: Qualified names of tensors by id.
        corrections: Takes what is written.
        keep_statistics: Leave running statistics as they are.
    """
    weight, bias = consumer.module.weight, consumer.module.bias
    matrix = consumer.matrix(weight.detach())
    if norm is None:
        changed = matrix.double() + fit.weight.mT
        corrections.write(consumer.weight, weight, consumer.weight_of(changed))
        if bias is not None:
            value = bias.detach().double() + fit.intercept.flatten()
            corrections.write(names.get(id(bias), f"{consumer.layer}.bias"), bias, value)
        return
    folded = folded_into_norm(matrix, bias, norm, fit, keep_statistics=keep_statistics)
    shaped = folded.weight.reshape(matrix.shape)
    corrections.write(consumer.weight, weight, consumer.weight_of(shaped))
    parts = zip(
        (norm.weight, norm.bias, norm.mean, norm.var),
        (folded.scale, folded.shift, folded.mean, folded.var),
        strict=True,
    )
    for tensor, value in parts:
        corrections.write(names[id(tensor)], tensor, value)


def _results(rows: Rows) -> Tensor:
    """Return [R, C], what a layer gives, its skip included."""
    given = torch.cat(rows.given)
    return given + torch.cat(rows.skip) if rows.skip else given


def _as_before(consumer: Consumer, before: Rows, changes: Changes) -> tuple[Tensor, Tensor]:
    """Return the rows that a recurrent layer read of its own hidden states, and its results.

    The hidden states are those of the network before the edit: in the present one, every step
    would add the error of those before it, which the fit is there to remove.
    """
    held = torch.cat(before.seen, 1)
    source = _feature_source(consumer, changes).to(held.device)
    seen = held[..., source.clamp(min=0)] * (source >= 0)
    now = (seen @ consumer.matrix(consumer.module.weight.detach()).mT)[0]
    bias = consumer.module.bias
    return seen, now if bias is None else now + bias.detach()


def _blocked(results: Tensor, blocks: int) -> Tensor:
    """Return [R, C] as [G, R, O]."""
    return results.reshape(len(results), blocks, -1).transpose(0, 1)


def _channel_source(consumer: Consumer, changes: Changes, channels: int) -> Tensor:
    """Return the old output channel at each output channel, −1 for a fresh one."""
    for change in changes[consumer.weight]:
        if change.dim != consumer.dim:
            return change.source
    return torch.arange(channels)


def _feature_source(consumer: Consumer, changes: Changes) -> Tensor:
    """Return the old feature at each feature of a consumer, −1 for a fresh one."""
    for change in changes[consumer.weight]:
        if change.dim == consumer.dim:
            return consumer.of_channels(change.source)
    return torch.arange(consumer.features)


def _spread(fit: Fit, kept: Tensor, features: int) -> Fit:
    """Return a fit on some features as one on all, with zeros for the others."""
    if len(kept) == features:
        return fit
    blocks, _, outputs = fit.weight.shape
    weight = fit.weight.new_zeros(blocks, features, outputs)
    weight[:, kept] = fit.weight
    mean = fit.mean.new_zeros(blocks, features)
    mean[:, kept] = fit.mean
    return Fit(weight, fit.intercept, mean, lambda matrix: fit.variance(matrix[..., kept]))


def _without_fresh(fit: Fit, source: Tensor) -> Fit:
    """Return a fit without what it would add to fresh outputs; source is [G, 1, O]."""
    old = (source >= 0).to(fit.weight)
    return replace(fit, weight=fit.weight * old, intercept=fit.intercept * old[:, 0])


def _not_finite(name: str) -> str:
    return (
        f"the input of {name!r} is NaN or infinite on these batches; look for NaN in the data or "
        "in the parameters"
    )
