"""Groups, made of what a walk has reached or of a registered layout."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.analysis.functional import FunctionalLayer
from growmas.structure.analysis.labels import Indices
from growmas.structure.analysis.reached import Reached
from growmas.structure.analysis.residual import ResidualKind, residual_kind
from growmas.structure.analysis.sizes import (
    attributes,
    heads_name,
    numbers_of_heads,
    whole_transformers,
)
from growmas.structure.analysis.unit_positions import (
    kinds_of_units,
    positions_of,
    runs_of,
    units_of,
)
from growmas.structure.layers.axes import (
    LayerAxes,
    Role,
    Side,
    TensorAxis,
    axes_of,
    why_fixed,
)
from growmas.structure.layers.layouts import Layout
from growmas.structure.layers.weight_norms import with_originals
from growmas.structure.units.groups import Member, Residual, UnitGroup

LayerSide = tuple[str, Side]
HEADS = "attention heads"


@dataclass(frozen=True, eq=False)
class _Channels:
    """The channels of the root on one side of a layer, or along an axis of a parameter."""

    axes: LayerAxes
    of_position: Indices
    reads: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def unit_groups(
    model: nn.Module,
    name: str,
    root: nn.Module,
    reached: Reached,
    names: Mapping[nn.Module, str],
    taken: set[LayerSide],
) -> list[UnitGroup]:
    """Make groups of the channels of a layer.

    One group, unless some units hold more positions than others, as where a layer's output is cut
    into halves that are used differently: then one for each kind of unit.

    Args:
        model: The network.
        name: The layer.
        root: The layer.
        reached: What a walk from it has reached; without an obstacle.
        names: Module -> its qualified name.
        taken: Sides of layers that other groups hold.
    """
    own = axes_of(root)
    if own is None:
        raise SurgeryError(why_fixed(root))
    width = own.channels(root, "out")
    sides = {(names[module], side): found for (module, side), found in reached.layers.items()}
    modules = {(names[module], side): module for module, side in reached.layers}
    units = units_of(width, reached.together, reached.splits, sides, modules)
    reads = {(names[module], side): places for (module, side), places in reached.reads.items()}
    placed = _placed(sides, modules, reads)
    parameters, why_not = _parameters(model, reached, units, taken)
    held = {at: positions_of(units, c.of_position) for at, c in {**placed, **parameters}.items()}
    count = int(units.max()) + 1
    counted = attributes(reached, units, names, taken)
    groups = []
    free = np.setdiff1d(np.arange(count), units[reached.stuck])
    for number, kind in enumerate(kinds_of_units(free, count, held)):
        whole = len(kind) == count
        members = _members({**placed, **parameters}, held, None if whole else kind, len(kind))
        members += _of_kind(counted, kind)
        members += whole_transformers(model, members)
        if reached.heads:
            members += numbers_of_heads(model, members, len(kind), reached.counted)
        residual = _residual(members, modules, reached)
        members = _with_starts(members, residual, reached.parameters)
        no_shrink, no_grow = _reasons(members, residual.start, residual.why_not, why_not)
        no_shrink, no_grow = no_shrink or reached.mixed, no_grow or reached.mixed
        norms = [m.axes for m in members if m.side == "out" and m.axes.no_shrink]
        stirred = [m for m in members if m.side == "in" and m.axes.in_no_shrink]
        kind_name = _kind(own, reached, members, np.isin(units, kind).sum() // len(kind))
        named = heads_name(name, members) if kind_name == HEADS else name
        groups.append(
            UnitGroup(
                f"{named}:{number + 1}" if number else named,
                kind_name,
                tuple(range(len(kind))),
                (0,) * len(kind),
                tuple(members),
                len(kind),
                no_shrink=no_shrink,
                no_grow=no_grow,
                residual=residual.start,
                scales=residual.scales,
                approximate=not why_not
                and bool(norms or stirred or reached.mixed)
                and all(axes.approximate for axes in norms),
            )
        )
    return groups


def _placed(
    sides: Mapping[LayerSide, Indices],
    modules: Mapping[LayerSide, nn.Module],
    reads: Mapping[LayerSide, Indices],
) -> dict[LayerSide, _Channels]:
    """Return the sides that were reached, with their axes; those of weights as their modules'."""
    placed: dict[LayerSide, _Channels] = {}
    for at, found in sides.items():
        module, axes = modules[at], axes_of(modules[at])
        read = reads.get(at, found[:0])
        if isinstance(module, FunctionalLayer):
            marked = np.where(np.isin(np.arange(len(found)), read), found, -1)
            marks = [channels >= 0 for _, _, channels in module.members(at[1], marked)]
            members = zip(module.members(at[1], found), marks, strict=True)
            for (held, own, channels), mark in members:
                known, read = placed.get(held), mark.nonzero()[0]
                if known is not None:  # another part of the same axis
                    channels = np.where(known.of_position >= 0, known.of_position, channels)
                    read = np.union1d(known.reads, read)
                placed[held] = _Channels(own, channels, read)
        elif axes is not None:
            for holder, own in with_originals(module, axes).items():
                placed[".".join(filter(None, [at[0], holder])), at[1]] = _Channels(own, found, read)
    return placed


def _kind(own: LayerAxes, reached: Reached, members: Iterable[Member], share: int) -> str:
    """Name units with `share` channels of the root; heads where each has several of some layer."""
    given = (m.positions.shape[1] for m in members if m.side != "in" and m.axes.out)
    if reached.heads and max(given, default=1) > 1:
        return HEADS
    return own.unit if share == 1 else f"sets of {share} {own.unit}"


def _members(
    channels: Mapping[LayerSide, _Channels],
    held: Mapping[LayerSide, tuple[Indices, Indices]],
    kind: Indices | None,
    count: int,
) -> list[Member]:
    """Return the sides that units of one kind, or all units, hold positions on."""
    members = []
    for at, (units, positions) in held.items():
        axes = channels[at].axes
        mine = positions if kind is None else positions[np.isin(units, kind)]
        if len(mine) and (axes.side(at[1]) or axes.sizes(at[1])):
            rows = mine.reshape(count, -1)
            table = torch.from_numpy(rows)
            read = np.flatnonzero(np.isin(rows, channels[at].reads).all(0))
            members.append(
                Member(*at, table, runs_of(table, axes, at[1]), axes, reads=tuple(read.tolist()))
            )
    return members


def _reasons(
    members: Iterable[Member], residual: Residual, why_no_residual: str, why_parameters: str
) -> tuple[str, str]:
    """Return why units cannot be removed and why none can be added, or nothing."""
    no_shrink, no_grow = why_parameters, why_parameters
    for member in members:
        axes = member.axes
        if member.side == "in" and axes.in_no_shrink:
            no_shrink = no_shrink or f"{member.layer!r} reads it: {axes.in_no_shrink}"
            no_grow = no_grow or (
                axes.in_no_grow and f"{member.layer!r} reads it: {axes.in_no_grow}"
            )
        if member.side == "out" and axes.no_shrink:
            no_shrink = no_shrink or f"it passes {member.layer!r}: {axes.no_shrink}"
        if member.side == "out" and axes.no_grow and not (residual and axes.norm):
            but = f", and {why_no_residual}" if axes.norm and why_no_residual else ""
            no_grow = no_grow or f"it passes {member.layer!r}: {axes.no_grow}{but}"
    return no_shrink, no_grow


def _parameters(
    model: nn.Module, reached: Reached, units: Indices, taken: set[LayerSide]
) -> tuple[dict[LayerSide, _Channels], str]:
    """Return parameters used outside their layers as sides of the modules that hold them.

    Returns:
        (module, name of the parameter) -> the channels along one of its axes; and why some
        parameter cannot be resized, or nothing.
    """
    found: dict[LayerSide, _Channels] = {}
    for qualified, channels in reached.parameters.items():
        owner, _, name = qualified.rpartition(".")
        parameter = _tensor(model, qualified)
        entries = np.full(parameter.numel(), -1, dtype=np.int64)
        entries[: len(channels)] = channels
        axis = _single_axis(np.where(entries >= 0, units[entries], -1).reshape(parameter.shape))
        if axis is None or (owner, name) in taken:
            return {}, reached.why_parameters
        along = np.moveaxis(entries.reshape(parameter.shape), axis, 0)
        first = along.reshape(parameter.shape[axis], -1).max(1)
        role: Role = "out" if isinstance(parameter, nn.Parameter) else "norm"
        fresh = float(qualified in reached.factors)
        found[owner, name] = _Channels(_parameter_axes(name, axis, role, fresh), first)
    return found, ""


def _of_kind(counted: Iterable[tuple[Indices, Member]], kind: Indices) -> list[Member]:
    """Return the parts of attributes that units of one kind hold."""
    return [
        replace(member, positions=member.positions[torch.from_numpy(np.searchsorted(kept, kind))])
        for kept, member in counted
        if np.isin(kind, kept).all()
    ]


def _tensor(model: nn.Module, qualified: str) -> Tensor:
    owner, _, name = qualified.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(owner), name)
    return tensor


def _single_axis(units: Indices) -> int | None:
    """Return the only axis along which the unit changes; None if there are several.

    Entries that were not reached, as positions behind the last token, are of any unit.
    """
    for axis in reversed(range(units.ndim)):
        rows = np.moveaxis(units, axis, 0).reshape(units.shape[axis], -1)
        if units.shape[axis] > 1 and ((rows < 0) | (rows == rows.max(1, keepdims=True))).all():
            return axis
    return None


def _parameter_axes(name: str, dim: int, role: Role, fresh: float) -> LayerAxes:
    """Return the axes of a parameter used outside its layer, whose channels lie along one axis."""

    def length(module: nn.Module, side: Side) -> int:
        return int(getattr(module, name).shape[dim])

    return LayerAxes(out=(TensorAxis(name, dim, role, fresh),), length=length, along=-1)


def _residual(
    members: Iterable[Member], modules: Mapping[LayerSide, nn.Module], reached: Reached
) -> ResidualKind:
    """Return what fresh units are before the norms that they pass."""
    norms = [member for member in members if member.axes.norm is not None]
    for member in norms:
        module, norm = modules[member.layer, member.side], member.axes.norm
        gain = getattr(module, norm.gain, None) if norm else None
        if gain is None:
            why = "has no gain to take up that their variance becomes smaller"
            return ResidualKind("", f"{member.layer!r} {why}")
        if member.positions.shape != (member.axes.channels(module, "out"), 1):
            return ResidualKind("", f"{member.layer!r} norms other channels with them")
    return residual_kind(reached.points()) if norms else ResidualKind("")


def _with_starts(
    members: Iterable[Member], residual: ResidualKind, parameters: Collection[str]
) -> list[Member]:
    """Set the start of fresh entries of parameters and buffers that meet a residual path.

    What scales a layer is 1; buffers that are added are the mean of their others, as rows are.
    """
    scales = set(residual.scales.values())
    found = []
    for member in members:
        name = ".".join(filter(None, [member.layer, member.side]))
        if name in scales or (name in parameters and residual.start == "mean"):
            role: Role = "norm" if name in scales else "out"
            axis = replace(member.axes.out[0], role=role, fresh=1.0)
            member = replace(member, axes=replace(member.axes, out=(axis,)))
        found.append(member)
    return found


def laid_out_group(model: nn.Module, module: str, layout: Layout) -> UnitGroup:
    """Make the group of a registered layout.

    Raises:
        SurgeryError: The layout does not fit the layers it names.
    """
    members = []
    for span in layout.spans:
        name = ".".join(filter(None, [module, span.layer]))
        layer = model.get_submodule(name)
        axes = span.axes or axes_of(layer)
        if axes is None:
            raise SurgeryError(f"the layout of {module!r} names {name!r}: {why_fixed(layer)}")
        positions = span.positions(layout.units)
        if positions.numel() != axes.channels(layer, span.side):
            raise SurgeryError(
                f"the layout of {module!r} holds {positions.numel()} positions on side "
                f"{span.side!r} of {name!r}, which has {axes.channels(layer, span.side)}"
            )
        members.append(Member(name, span.side, positions, span.blocks, axes))
    return UnitGroup(
        ".".join(filter(None, [module, layout.name])),
        layout.kind,
        tuple(range(layout.units)),
        (0,) * layout.units,
        tuple(members),
        layout.units,
        no_shrink=layout.no_shrink,
        no_grow=layout.no_grow,
    )
