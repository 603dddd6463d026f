"""Readings: weights and input covariances of the layers that read the units of each group."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward, batch_size, check_batches, data_that_fits, default_forward
from growmas.errors import DataError
from growmas.moments import Moments
from growmas.structure.layers.gains import has_gains
from growmas.structure.reconstruction.consumers import Consumer, reader_name
from growmas.structure.reconstruction.endings import Ending, endings
from growmas.structure.reconstruction.passes import measured, usable
from growmas.structure.reconstruction.recording import Recorder, row_limit
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.selection.elimination import Reading
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import placements

_NUMBERS = 2**28
"""Largest number of float32 numbers (1 GiB) in rows that are recorded at once."""

Readings = dict[str, Reading]
"""Layer name -> how it reads a group; layers that no data reached are missing."""


@dataclass(frozen=True, eq=False)
class Group:
    """A group with the layers that read its units.

    Attributes:
        units: The group.
        consumers: The layers.
    """

    units: UnitGroup
    consumers: Sequence[Consumer]


def readings(
    model: nn.Module,
    groups: Sequence[Group],
    source: Iterable[Any] | ActivationStatistics,
    forward: Forward | None,
    run: Callable[[], Any],
) -> Iterator[tuple[Group, Readings]]:
    """Yield every group with the readings of its layers; few are in memory at once.

    Args:
        model: The network.
        groups: The groups.
        source: Unlabelled batches, read several times, or statistics.
        forward: (model, batch) -> output.
        run: Runs the network on example inputs.

    Raises:
        DataError: There is no sample, or an activation is NaN or infinite.
    """
    layers = {c.layer: c.module for group in groups for c in group.consumers}
    if isinstance(source, ActivationStatistics):
        source.check_current()
        with measured(model):
            after = endings(layers, run)
        for group in groups:
            moments = {c.layer: source.moments.get(c.layer) for c in group.consumers}
            found = {n: held for n, held in moments.items() if held is not None and held.count}
            covariances = {
                name: _covariance_of(held, _has_intercept(_consumer(group, name), after[name]))
                for name, held in found.items()
            }
            yield group, _readings(model, group, covariances, after)
        return
    check_batches(source)
    batches = source if isinstance(source, list | tuple) else list(source)
    shares = _shares(batches, model)
    with measured(model), data_that_fits():
        after = endings(layers, run)
    for portion in _portions(groups):
        covariances = _covariances(model, portion, batches, shares, forward, after)
        for group in portion:
            yield group, _readings(model, group, covariances, after)


def _covariances(
    model: nn.Module,
    groups: Sequence[Group],
    batches: Sequence[Any],
    shares: list[float],
    forward: Forward | None,
    after: Mapping[str, Ending],
) -> dict[str, Tensor]:
    """Return the covariance [G, F, F] of what each layer that data reaches reads.

    Of a wide layer, whose covariance would be too large, return the rows [G, R, F] themselves.
    """
    consumers = {c.layer: c for group in groups for c in group.consumers}
    half = [share / 2 for share in shares]  # the choice needs fewer rows than the repair
    recorder = Recorder(consumers, {name: Ending() for name in consumers}, half)
    with measured(model), recorder.listening(model):
        for batch in usable(batches, model):
            with data_that_fits():
                recorder.run(partial(forward or default_forward, model, batch))
    found = {}
    for name, rows in recorder.rows.items():
        if rows.count:
            seen = torch.cat(rows.seen, 1)
            centred = _has_intercept(consumers[name], after[name])
            found[name] = seen if consumers[name].wide else _covariance(seen, centred)
            if not found[name].isfinite().all():
                raise DataError(
                    f"the input of {name!r} is NaN or infinite on these batches; look for NaN in "
                    "the data or in the parameters"
                )
        rows.seen.clear()
    return found


def _covariance(seen: Tensor, centred: bool) -> Tensor:
    """Return the covariance of rows [G, R, F], or their second moments about zero."""
    rows = seen if seen.dtype == torch.float64 else seen.float()
    if not centred:
        return (rows.mT @ rows / rows.shape[1]).double()
    mean = rows.mean(1, keepdim=True)
    rows = rows - mean
    return _without_rounding((rows.mT @ rows / rows.shape[1]).double(), mean[:, 0], rows.dtype)


def _covariance_of(held: Moments, centred: bool) -> Tensor:
    """Return the covariance that moments hold, or the second moments about zero."""
    if not centred:
        return held.about_zero().scatter / held.count
    return _without_rounding(held.scatter / held.count, held.mean, torch.float32)


def _without_rounding(covariance: Tensor, mean: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a covariance with zeros for features that vary by rounding only."""
    variance = covariance.diagonal(dim1=1, dim2=2)
    constant = variance <= (10 * torch.finfo(dtype).eps * mean.double()).square()
    varying = (~constant).double()
    return covariance * varying[:, :, None] * varying[:, None, :]


def _readings(
    model: nn.Module, group: Group, covariances: Mapping[str, Tensor], after: Mapping[str, Ending]
) -> Readings:
    """Return the readings of a group's layers; rows are weighted by gains, and that of a norm."""
    positions: dict[str, list[Tensor]] = {}
    for place in placements(model, group.units, ["in"]):
        positions.setdefault(reader_name(place), []).append(place.positions)
    found = {}
    for consumer in group.consumers:
        if consumer.layer not in covariances:
            continue
        units = torch.cat(positions[consumer.layer], -1)
        features = torch.stack([consumer.of_channels(channels) for channels in units])
        weight = consumer.matrix(consumer.module.weight.detach()).double()
        norm = after[consumer.layer].norm
        if has_gains(consumer.module):
            weight = weight * consumer.module.gain.detach().view(*weight.shape[:2], 1)
        if norm is not None:
            weight = weight * norm.gain.view(*weight.shape[:2], 1)
        held = covariances[consumer.layer]
        if consumer.wide:
            centred = _has_intercept(consumer, after[consumer.layer])
            found[consumer.layer] = _tap_by_tap(weight, held, features, centred)
        else:
            found[consumer.layer] = Reading(weight, held, features)
    return found


def _tap_by_tap(weight: Tensor, seen: Tensor, features: Tensor, centred: bool) -> Reading:
    """Return a reading in which units are predicted from others at the same tap or pixel only.

    It takes t covariances of U units instead of one of U · t features.

    Args:
        weight: [G, O, F].
        seen: [G, R, F], rows.
        features: [U, t].
        centred: Whether the layer has an intercept.
    """
    taps = features.T
    parts = [_covariance(seen[..., features], centred) for features in taps]
    weights = [weight[..., features] for features in taps]
    units = torch.arange(taps.shape[1])[:, None]
    return Reading(torch.cat(weights), torch.cat(parts), units)


def _has_intercept(consumer: Consumer, ending: Ending) -> bool:
    """Return True if a constant can be added to what a layer gives."""
    return consumer.module.bias is not None or ending.norm is not None


def _consumer(group: Group, name: str) -> Consumer:
    return next(consumer for consumer in group.consumers if consumer.layer == name)


def _shares(batches: Sequence[Any], model: nn.Module) -> list[float]:
    """Return each batch's share of the samples.

    Raises:
        DataError: There is no batch with a sample.
    """
    sizes = [batch_size(batch) for batch in usable(batches, model)]
    if not sizes:
        raise DataError(
            "select(batches) has no sample: give at least one batch with one sample; without "
            "data, rank units by structure.saliency(omega)"
        )
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return [1 / len(sizes)] * len(sizes)
    return [size / sum(known) for size in known]


def _portions(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield groups whose rows can be in memory together."""
    portion: list[Group] = []
    kept = 0
    for group in groups:
        size = sum(row_limit(c) * c.features * c.blocks for c in group.consumers)
        if portion and kept + size > _NUMBERS:
            yield portion
            portion, kept = [], 0
        portion.append(group)
        kept += size
    if portion:
        yield portion
