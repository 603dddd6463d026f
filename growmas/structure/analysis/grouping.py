"""Groups, made of what a walk has reached or of a registered layout."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from growmas.errors import SurgeryError
from growmas.structure.analysis.functional import FunctionalLayer
from growmas.structure.analysis.labels import Indices
from growmas.structure.analysis.residual import ResidualKind, residual_kind
from growmas.structure.analysis.tracing import Reached
from growmas.structure.analysis.unit_positions import (
    kinds_of_units,
    positions_of,
    runs_of,
    units_of,
)
from growmas.structure.layers.axes import LayerAxes, Side, Size, TensorAxis, axes_of, why_fixed
from growmas.structure.layers.layouts import Layout
from growmas.structure.units.groups import Member, Residual, UnitGroup

LayerSide = tuple[str, Side]
HEADS = "attention heads"
_NUMBERS_OF_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_key_value_heads")


@dataclass(frozen=True, eq=False)
class _Channels:
    """The channels of the root on one side of a layer, or along an axis of a parameter."""

    axes: LayerAxes
    of_position: Indices


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
    placed = _placed(sides, modules)
    parameters, why_not = _parameters(model, reached, units, taken)
    held = {at: positions_of(units, c.of_position) for at, c in {**placed, **parameters}.items()}
    count = int(units.max()) + 1
    attributes = _attributes(reached, units, names, taken)
    groups = []
    free = np.setdiff1d(np.arange(count), units[reached.stuck])
    for number, kind in enumerate(kinds_of_units(free, count, held)):
        whole = len(kind) == count
        members = _members({**placed, **parameters}, held, None if whole else kind, len(kind))
        members += [
            _of_kind(member, np.searchsorted(kept, kind))
            for kept, member in attributes
            if np.isin(kind, kept).all()
        ]
        members += _whole_transformers(model, members)
        if reached.heads:
            members += _numbers_of_heads(model, members, len(kind))
        residual = _residual(members, modules, reached)
        members = _with_scales(members, residual.scales)
        no_shrink, no_grow = _reasons(members, residual.start, residual.why_not, why_not)
        no_shrink, no_grow = no_shrink or reached.mixed, no_grow or reached.mixed
        norms = [m.axes for m in members if m.side == "out" and m.axes.no_shrink]
        kind_name = _kind(own, reached, width, count)
        named = _heads_name(name, members) if kind_name == HEADS else name
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
                and bool(norms or reached.mixed)
                and all(axes.approximate for axes in norms),
            )
        )
    return groups


def _placed(
    sides: Mapping[LayerSide, Indices], modules: Mapping[LayerSide, nn.Module]
) -> dict[LayerSide, _Channels]:
    """Return the sides that were reached, with their axes; those of weights as their modules'."""
    placed: dict[LayerSide, _Channels] = {}
    for at, found in sides.items():
        module, axes = modules[at], axes_of(modules[at])
        if isinstance(module, FunctionalLayer):
            for held, own, channels in module.members(at[1], found):
                known = placed.get(held)
                if known is not None:  # another part of the same axis
                    channels = np.where(known.of_position >= 0, known.of_position, channels)
                placed[held] = _Channels(own, channels)
        elif axes is not None:
            placed[at] = _Channels(axes, found)
    return placed


def _kind(own: LayerAxes, reached: Reached, width: int, count: int) -> str:
    if reached.heads and count < width:
        return HEADS
    return own.unit if count == width else f"sets of {width // count} {own.unit}"


def _heads_name(root: str, members: Iterable[Member]) -> str:
    """Name heads after the module that holds all their layers, as registered layouts do."""
    paths = [member.layer.split(".") for member in members]
    shared = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    within = shared if any(len(shared) < len(path) for path in paths) else shared[:-1]
    return ".".join([*within, "heads"]) if within else f"{root}.heads"


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
            table = torch.from_numpy(mine.reshape(count, -1))
            members.append(Member(*at, table, runs_of(table, axes, at[1]), axes))
    return members


def _reasons(
    members: Iterable[Member], residual: Residual, why_no_residual: str, why_parameters: str
) -> tuple[str, str]:
    """Return why units cannot be removed and why none can be added, or nothing."""
    no_shrink, no_grow = why_parameters, why_parameters
    for member in members:
        axes = member.axes
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
        parameter = model.get_parameter(qualified)
        entries = np.full(parameter.numel(), -1, dtype=np.int64)
        entries[: len(channels)] = channels
        axis = _single_axis(np.where(entries >= 0, units[entries], -1).reshape(parameter.shape))
        if axis is None or (owner, name) in taken:
            return {}, reached.why_parameters
        along = np.moveaxis(entries.reshape(parameter.shape), axis, 0)
        first = along.reshape(parameter.shape[axis], -1)[:, 0]
        found[owner, name] = _Channels(_parameter_axes(name, axis), first)
    return found, ""


def _attributes(
    reached: Reached,
    units: Indices,
    names: Mapping[nn.Module, str],
    taken: set[LayerSide],
) -> list[tuple[Indices, Member]]:
    """Return attributes that change with units, as sides of the modules that have them.

    An attribute changes with the units that change along the axis whose length it is. That of an
    axis within the units, such as the size of a head, stays.
    """
    found: dict[LayerSide, tuple[Indices, Member]] = {}
    for use in reached.attributes:
        side = use.name if use.entry is None else f"{use.name}[{use.entry}]"
        at = (names[use.module], side)
        size = _size_of(use.name, use.entry)
        value = size.channels(use.module, at[1])
        along = np.moveaxis(np.where(use.channels >= 0, units[use.channels], -1), use.axis, 0)
        rows = along.reshape(len(along), -1)
        if at in taken or (rows == rows[:1]).all():
            continue
        kind = np.unique(rows[rows >= 0])
        if value % len(kind):
            continue
        share = value // len(kind)
        positions = torch.arange(value).view(len(kind), share)
        found[at] = (kind, Member(*at, positions, (share,), size))
    return list(found.values())


def _of_kind(member: Member, units: Indices) -> Member:
    """Return the part of a side that some of its units hold."""
    return replace(member, positions=member.positions[torch.from_numpy(units)])


def _size_of(name: str, entry: int | None) -> LayerAxes:
    """Return the axes of a module of which only an attribute, or an entry of one, changes."""
    if entry is None:
        return LayerAxes(
            out=(), out_size=(Size(name),), length=lambda module, side: int(getattr(module, name))
        )

    def value(module: nn.Module, length: int) -> Sequence[int]:
        before = getattr(module, name)
        return type(before)([*before[:entry], length, *before[entry + 1 :]])  # type: ignore[no-any-return]

    return LayerAxes(
        out=(),
        out_size=(Size(name, value),),
        length=lambda module, side: int(getattr(module, name)[entry]),
    )


def _whole_transformers(model: nn.Module, members: Iterable[Member]) -> list[Member]:
    """Return the width that an `nn.Transformer` compares its inputs with, for units it norms."""
    normed = [member for member in members if member.axes.norm is not None]
    found = []
    for name, module in model.named_modules() if normed else ():
        if isinstance(module, nn.Transformer):
            within = [m for m in normed if m.layer.startswith(f"{name}." if name else "")]
            axes = LayerAxes(out=(), out_size=(Size("d_model"),))
            found += [Member(name, "d_model", m.positions, m.runs, axes) for m in within[:1]]
    return found


def _numbers_of_heads(model: nn.Module, members: list[Member], units: int) -> list[Member]:
    """Return the numbers of heads that the module of the heads only compares shapes with."""
    name = _heads_name("", members).rpartition(".")[0]
    known = {(member.layer, size.name) for member in members for size in member.axes.out_size}
    found = []
    for attribute in _NUMBERS_OF_HEADS:
        value = vars(model.get_submodule(name)).get(attribute)
        if type(value) is int and value % units == 0 and (name, attribute) not in known:
            share = value // units
            positions = torch.arange(value).view(units, share)
            axes = LayerAxes(out=(), out_size=(Size(attribute),))
            found.append(Member(name, attribute, positions, (share,), axes))
    return found


def _single_axis(units: Indices) -> int | None:
    """Return the only axis along which the unit changes; None if there are several."""
    for axis in reversed(range(units.ndim)):
        rows = np.moveaxis(units, axis, 0).reshape(units.shape[axis], -1)
        if units.shape[axis] > 1 and (rows == rows[:, :1]).all():
            return axis
    return None


def _parameter_axes(name: str, dim: int) -> LayerAxes:
    """Return the axes of a parameter used outside its layer, whose channels lie along one axis."""

    def length(module: nn.Module, side: Side) -> int:
        return module.get_parameter(name).shape[dim]

    return LayerAxes(out=(TensorAxis(name, dim, "out"),), length=length, along=-1)


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
        if member.positions.shape != (len(gain), 1):
            return ResidualKind("", f"{member.layer!r} norms other channels with them")
    return residual_kind(reached.points()) if norms else ResidualKind("")


def _with_scales(members: Iterable[Member], scales: Mapping[str, str]) -> list[Member]:
    """Let fresh entries of parameters that scale a layer of a residual path be 1."""
    names = set(scales.values())
    found = []
    for member in members:
        if ".".join(filter(None, [member.layer, member.side])) in names:
            axis = replace(member.axes.out[0], role="norm", fresh=1.0)
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
