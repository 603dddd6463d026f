"""Renewal: units are replaced in place, at constant width, without new parameters.

A unit that is renewed keeps its positions. Its rows are drawn anew, the columns that read it are
drawn so that they cancel within a family of mates (see `Paired`), and its norms get their neutral
constants. Rows, biases and columns come from the layers' own default, U(−1/√fan_in, 1/√fan_in).
In families they are then scaled. Columns get the size of living ones, and rows the geometric mean
of the default length and the mean length of living rows. Rows of default length are a fraction of
trained ones, so that newborns do little beside their neighbours and are replaced again as soon as
they are old enough; rows of living length, born again and again, grow without bound under SGD.
Nothing changes shape, so that every parameter and optimizer stays as it is, except the entries of
these units.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from growmas.structure.followers.optimizers import fresh_state
from growmas.structure.followers.warmup import Warmup
from growmas.structure.initialisation.paired import balanced, families, obstacle
from growmas.structure.layers.axes import Role
from growmas.structure.units.edit import AxisChange
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import placements

Axis = tuple[str, int]
"""Qualified name of a parameter or buffer, and one of its axes."""


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries that the units of a group hold along one axis of one tensor.

    Attributes:
        name: Qualified name of the tensor.
        module: The layer.
        attribute: Name of the tensor in the layer.
        dim: The axis.
        role: See `TensorAxis`.
        constant: Start of an entry of role "norm".
        positions: [U, m] int64.
        fan_in: Number of entries from which an output of the layer is computed.
    """

    name: str
    module: nn.Module
    attribute: str
    dim: int
    role: Role
    constant: float
    positions: Tensor
    fan_in: int

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer, as it is now."""
        tensor: Tensor = getattr(self.module, self.attribute)
        return tensor

    def of(self, units: Sequence[int]) -> Tensor:
        """Return the positions of some units, flat, on the tensor's device."""
        return self.positions[list(units)].flatten().to(self.tensor.device)


def entries_of(model: nn.Module, group: UnitGroup) -> tuple[Entries, ...]:
    """Return the entries of a group in all tensors; columns come first, then rows, then norms."""
    names = {
        id(tensor): name
        for named in (model.named_parameters(), model.named_buffers())
        for name, tensor in named
    }
    found: dict[tuple[str, int, bytes], Entries] = {}
    for place in placements(model, group):
        name, axis, tensor = names[id(place.tensor)], place.axis, place.tensor
        weights = [p for p in (tensor, *place.module.parameters(recurse=False)) if p.dim() > 1]
        along = axis.dim if axis.role == "out" else 0
        fan_in = weights[0].numel() // max(1, weights[0].shape[along]) if weights else 1
        entries = Entries(
            name,
            place.module,
            axis.tensor,
            axis.dim,
            axis.role,
            axis.fresh,
            place.positions,
            fan_in,
        )
        found.setdefault((name, axis.dim, place.positions.numpy().tobytes()), entries)
    return tuple(sorted(found.values(), key=lambda e: ("in", "out", "norm").index(e.role)))


def renewal_obstacle(model: nn.Module, group: UnitGroup, *, paired: bool) -> str:
    """Return the reason why units of a group cannot be renewed; empty if they can."""
    if group.no_shrink or group.no_grow:
        return group.no_shrink or group.no_grow
    if not any(m.side == "in" or m.reads for m in group.members):
        return "no layer reads its units"
    if any(m.axes.row_lengths and m.side == "in" for m in group.members):
        return "layers that read its units keep the lengths of their rows apart (weight_norm)"
    if paired and group.width < 2:
        return "it has a single unit, and units are renewed in pairs"
    return obstacle(model, group)


def touched(
    entries: Mapping[str, Sequence[Entries]], units: Mapping[str, Sequence[int]]
) -> dict[Axis, Tensor]:
    """Return the positions that a renewal writes, on the CPU: (tensor, axis) -> positions.

    Args:
        entries: Group name -> its entries.
        units: Group name -> indices of the units to renew.
    """
    found: dict[Axis, list[Tensor]] = {}
    for name, indices in units.items():
        for each in entries[name]:
            positions = each.positions[list(indices)].flatten()
            found.setdefault((each.name, each.dim), []).append(positions)
    return {axis: torch.cat(parts) if len(parts) > 1 else parts[0] for axis, parts in found.items()}


@torch.no_grad()
def draw(
    entries: Mapping[str, Sequence[Entries]],
    units: Mapping[str, Sequence[int]],
    generator: torch.Generator | None,
    *,
    paired: bool,
) -> None:
    """Write fresh values for units, in place.

    Columns of all groups come first, then the rows, so that mates read the same. Families are
    consecutive units; one alone gets zero columns, and rows of the default length.
    """
    sizes = {name: _families(tuple(indices), paired) for name, indices in units.items()}
    for name, indices in units.items():
        for each in entries[name]:
            if each.role == "in":
                _write_columns(each, indices, sizes[name], generator)
    for name, indices in units.items():
        factors: dict[nn.Module, Tensor] = {}
        for each in entries[name]:
            if each.role == "out":
                _write_rows(each, indices, sizes[name], generator, factors)
    for name, indices in units.items():
        for each in entries[name]:
            if each.role == "norm":
                each.tensor.index_fill_(each.dim, each.of(indices), each.constant)


def _families(indices: tuple[int, ...], paired: bool) -> list[int]:
    """Return the sizes of the families of some units, in order; 1 for a unit alone."""
    sizes = [len(family) for family in families(indices)] if paired else []
    return sizes + [1] * (len(indices) - sum(sizes))


def _write_columns(
    entries: Entries, units: Sequence[int], sizes: Sequence[int], generator: torch.Generator | None
) -> None:
    """Write columns that cancel within each family, as large as living ones.

    Args:
        entries: The entries of the group in a layer that reads it.
        units: Indices of the units to renew.
        sizes: Sizes of the families, in the order of the units.
        generator: Randomness, on the CPU; None takes torch's own.
    """
    if max(sizes) == 1:
        entries.tensor.index_fill_(entries.dim, entries.of(units), 0.0)
        return
    drawn, bound = _drawn(entries, len(sizes), generator)
    squares = _living_lengths(entries, units).square()  # over all units: as `Paired` does
    size = float(squares.sum() / (len(entries.positions) * drawn[0].numel())) ** 0.5
    if 0 < size < float("inf"):  # U(−b, b) has the root mean square b / √3
        drawn *= size * 3**0.5 / bound
        bound = size * 3**0.5
    _put(entries, units, _columns(drawn, sizes, bound, generator))


def _write_rows(
    entries: Entries,
    units: Sequence[int],
    sizes: Sequence[int],
    generator: torch.Generator | None,
    factors: dict[nn.Module, Tensor],
) -> None:
    """Write rows or biases that mates share.

    Args:
        entries: The entries of the group in a layer that produces it.
        units: Indices of the units to renew.
        sizes: Sizes of the families, in the order of the units.
        generator: Randomness, on the CPU; None takes torch's own.
        factors: Layer -> [families], by which the rows of its first matrix were scaled, and its
            bias is; gets those of the layer.
    """
    drawn, _ = _drawn(entries, len(sizes), generator)
    padding = getattr(entries.module, "padding_idx", None)
    if isinstance(padding, int) and entries.dim == 1:
        drawn[..., padding] = 0.0
    if max(sizes) > 1 and entries.tensor.dim() > 1:
        factor = _row_factors(_living_lengths(entries, units), drawn)
        factors.setdefault(entries.module, factor)
    else:
        factor = factors.get(entries.module, torch.ones(()))
    drawn *= factor.view(-1, *[1] * (drawn.dim() - 1))
    _put(entries, units, drawn.repeat_interleave(torch.tensor(sizes), 0))


def _drawn(entries: Entries, count: int, generator: torch.Generator | None) -> tuple[Tensor, float]:
    """Return [count, m, ...] entries from the layer's default U(−b, b), and b."""
    tensor, bound = entries.tensor, entries.fan_in**-0.5
    rest = [length for axis, length in enumerate(tensor.shape) if axis != entries.dim]
    precision = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    drawn = torch.empty(count, entries.positions.shape[1], *rest, dtype=precision)
    return drawn.uniform_(-bound, bound, generator=generator), bound


def _put(entries: Entries, units: Sequence[int], values: Tensor) -> None:
    """Write values [units, m, ...] into the entries of units."""
    flat = values.flatten(0, 1).movedim(0, entries.dim)
    entries.tensor.index_copy_(entries.dim, entries.of(units), flat.to(entries.tensor))


def _living_lengths(entries: Entries, units: Sequence[int]) -> Tensor:
    """Return [living], the length of the entries of each unit that stays, on the CPU."""
    tensor = entries.tensor.detach()
    others = [dim for dim in range(tensor.dim()) if dim != entries.dim]
    precision = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    along = torch.linalg.vector_norm(tensor, dim=others, dtype=precision).cpu()
    stays = torch.ones(len(entries.positions), dtype=torch.bool)
    stays[list(units)] = False
    lengths: Tensor = along.square()[entries.positions[stays]].sum(1).sqrt()
    return lengths


def _row_factors(living: Tensor, drawn: Tensor) -> Tensor:
    """Return [families], √(mean length of living rows / length of the drawn row); 1 without any."""
    if not len(living):
        return torch.ones(len(drawn))
    factors = living.mean() / drawn.flatten(1).norm(dim=1)
    return torch.where(factors.isfinite() & (factors > 0), factors, 1.0).sqrt()


def _columns(
    drawn: Tensor, sizes: Sequence[int], bound: float, generator: torch.Generator | None
) -> Tensor:
    """Return the columns of families, which add up to zero in each."""
    parts = []
    for row, size in zip(drawn, sizes, strict=True):
        if size == 1:
            parts.append(torch.zeros_like(row)[None])
        elif size == 2:
            parts.append(torch.stack([row, -row]))
        else:  # of the same variance, bound² / 3
            spread = balanced(size, row.shape, generator) * (bound / 3**0.5)
            parts.append(spread.to(row))
    return torch.cat(parts)


@torch.no_grad()
def renew_state(
    optimizers: Iterable[Optimizer],
    parameters: Mapping[str, nn.Parameter],
    axes: Mapping[Axis, Tensor],
) -> None:
    """Give the optimizer state of some positions the values of a new parameter, in place.

    Moments are zero; the step that a tensor's entries share stays, see `Warmup`. Optimizers with
    such a step but without a warm-up (NAdam, RAdam) get the mean of the tensor's second moments, so
    that the first updates have the usual size. Gradients of the positions are zero, too.
    """
    for optimizer in optimizers:
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for (name, dim), positions in axes.items():
            parameter = parameters.get(name)
            if parameter is None or id(parameter) not in groups:
                continue
            where = positions.to(parameter.device)
            for key, state in optimizer.state.get(parameter, {}).items():
                if not isinstance(state, Tensor) or state.shape != parameter.shape:
                    continue
                value = fresh_state(optimizer, groups[id(parameter)], key)
                if key == "exp_avg_sq" and not isinstance(optimizer, Adam | AdamW):
                    value = float(state.mean())
                if value is None:
                    state.index_copy_(dim, where, parameter.detach().index_select(dim, where))
                else:
                    state.index_fill_(dim, where, value)
    for (name, dim), positions in axes.items():
        gradient = parameters[name].grad if name in parameters else None
        if gradient is not None and not gradient.is_sparse:
            gradient.index_fill_(dim, positions.to(gradient.device), 0.0)


def mark_young(
    warmups: Iterable[Warmup], parameters: Mapping[str, nn.Parameter], axes: Mapping[Axis, Tensor]
) -> None:
    """Let warm-ups correct the next steps of some positions."""
    places = {axis: positions for axis, positions in axes.items() if axis[0] in parameters}
    for warmup in warmups:
        warmup.mark(places)


def changes_of(
    axes: Mapping[Axis, Tensor], entries: Mapping[str, Sequence[Entries]]
) -> dict[str, tuple[AxisChange, ...]]:
    """Return a renewal as changes of axes, in which the renewed positions are fresh."""
    kinds = {(e.name, e.dim): e for each in entries.values() for e in each}
    found: dict[str, list[AxisChange]] = {}
    for axis, positions in axes.items():
        kind = kinds[axis]
        source = torch.arange(kind.tensor.shape[kind.dim])
        source[positions] = -1
        change = AxisChange(kind.dim, source, kind.role, kind.constant)
        found.setdefault(kind.name, []).append(change)
    return {name: tuple(changes) for name, changes in found.items()}


def renewed_group(group: UnitGroup, units: Sequence[int], task: int) -> UnitGroup:
    """Return a group in which some units have new ids, at the same places."""
    ids, births = list(group.unit_ids), list(group.births)
    for number, index in enumerate(units):
        ids[index], births[index] = group.next_id + number, task
    next_id = group.next_id + len(units)
    return replace(group, unit_ids=tuple(ids), births=tuple(births), next_id=next_id)


def kept_entries(
    axes: Mapping[Axis, Tensor], entries: Mapping[str, Sequence[Entries]]
) -> list[tuple[Any, ...]]:
    """Return the entries at positions as they are, for `put_back`."""
    tensors = {e.name: e.tensor for each in entries.values() for e in each}
    return [
        (tensors[name], dim, where, tensors[name].detach().index_select(dim, where))
        for (name, dim), positions in axes.items()
        for where in (positions.to(tensors[name].device),)
    ]


@torch.no_grad()
def put_back(kept: Iterable[tuple[Any, ...]]) -> None:
    """Write entries back that `kept_entries` returned."""
    for tensor, dim, where, values in reversed(list(kept)):
        tensor.index_copy_(dim, where, values)
