"""Which units a network has; nothing is changed by looking."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.preserving import preserving
from growmas.structure.analysis.architecture import Operation
from growmas.structure.analysis.residual import residual_of
from growmas.structure.analysis.tracing import (
    DependencyTrace,
    Pairs,
    StructureForward,
    Walk,
    unused_layers,
)
from growmas.structure.layers.axes import LayerAxes, Side, TensorAxis, axes_of, why_fixed
from growmas.structure.layers.layouts import Layout, layouts_of
from growmas.structure.units.groups import Member, Residual, UnitGroup

LayerSide = tuple[str, Side]
Channels = dict[LayerSide, Pairs]
"""Layer side -> [n, 2], the root channel of every position."""


@dataclass(frozen=True)
class Anatomy:
    """What the analysis found.

    Attributes:
        groups: Groups that can shrink or grow, by name, in the order of the model's layers.
        fixed: Groups that can do neither, by name, each with the reason.
        edges: Data flow from layer to layer, by qualified name.
        operations: What data flow through beside the layers.
        flow: Data flow between layers and operations.
    """

    groups: dict[str, UnitGroup]
    fixed: dict[str, str]
    edges: tuple[tuple[str, str], ...]
    operations: tuple[Operation, ...]
    flow: tuple[tuple[str, str], ...]


def discover(
    model: nn.Module, example_inputs: Any, forward: StructureForward, ignore: Iterable[str] = ()
) -> Anatomy:
    """Find the groups of units of `model` on its example inputs; the model is left as it was.

    Layouts registered for a module come first; all other groups come from torch-pruning's
    dependency graph.

    Args:
        model: The network.
        example_inputs: Inputs on which every layer, the heads of all tasks too, runs.
        forward: (model, example_inputs) -> output.
        ignore: Qualified names of layers that need not run.

    Raises:
        SurgeryError: The forward pass fails, or a layer with parameters does not take part in it.
    """
    with preserving(model), torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        trace = DependencyTrace(model, example_inputs, forward)
        _check_all_ran(model, trace, set(ignore))
    names = {module: name for name, module in model.named_modules()}
    groups: dict[str, UnitGroup] = {}
    fixed: dict[str, str] = {}
    laid_out: set[LayerSide] = set()
    for module, name in names.items():
        for layout in layouts_of(module):
            group = _laid_out(model, name, layout)
            laid_out |= {(member.layer, member.side) for member in group.members}
            _file(group, groups, fixed)
    given = set(laid_out)
    for module, name in names.items():
        axes = axes_of(module)
        if not trace.has(module) or (name, "out") in given:
            continue
        reason = _why_fixed(module)
        if reason:
            fixed[name] = reason
        elif axes is not None and axes.produces:
            walk = trace.walk(module, axes.channels(module, "out"))
            given |= {(names[touched], side) for touched, side in walk.touched}
            reason = _obstacle(walk, laid_out, names)
            if reason:
                fixed[name] = reason
            else:
                raw = _raw_members(model, walk, laid_out)
                group = _unit_group(name, module, axes, walk, names, raw)
                laid_out |= {at for at in raw if group.residual}
                _file(group, groups, fixed)
    parts = trace.edges(), trace.operations(), trace.flow()
    return Anatomy(_in_order(groups, names), fixed, *parts)


def _check_all_ran(model: nn.Module, trace: DependencyTrace, ignore: set[str]) -> None:
    idle = unused_layers(model, trace.outputs) - ignore
    if idle:
        raise SurgeryError(
            f"layers {', '.join(sorted(map(repr, idle)))} take no part in the output on the "
            "example inputs, so surgery could not keep them in step: pass forward= a function "
            "that runs them all (the heads of every task), or name them in ignore="
        )


def _file(group: UnitGroup, groups: dict[str, UnitGroup], fixed: dict[str, str]) -> None:
    if group.no_shrink and group.no_grow:
        fixed[group.name] = group.no_grow
    else:
        groups[group.name] = group


def _in_order(groups: dict[str, UnitGroup], names: dict[nn.Module, str]) -> dict[str, UnitGroup]:
    order = {name: position for position, name in enumerate(names.values())}
    return dict(sorted(groups.items(), key=lambda item: order[item[1].members[0].layer]))


def _obstacle(walk: Walk, laid_out: set[LayerSide], names: dict[nn.Module, str]) -> str:
    """Why the group cannot change at all, or nothing."""
    if walk.obstacle:
        return walk.obstacle
    for module, side in walk.touched:
        reason = _why_fixed(module)
        if reason:
            return f"it touches {names[module]!r}: {reason}"
        if (names[module], side) in laid_out:
            return f"the layout of another group holds the channels of {names[module]!r}"
    if not any(side == "in" for _, side in walk.touched):
        return "no layer reads it"
    return ""


def _why_fixed(module: nn.Module) -> str:
    """Why the layer cannot be resized, or nothing."""
    axes = axes_of(module)
    if axes is None:
        return why_fixed(module)
    for name in dict.fromkeys(axis.tensor for axis in (*axes.out, *axes.into)):
        held = name in module._parameters or name in module._buffers
        if not held and getattr(module, name, None) is not None:
            return f"its {name} is computed, as by weight_norm, and no parameter of its own"
    return ""


def _raw_members(
    model: nn.Module, walk: Walk, laid_out: set[LayerSide]
) -> dict[LayerSide, tuple[LayerAxes, Pairs]]:
    """Parameters used outside their layers, by the module that holds them, with their channels.

    None at all where one of them cannot be followed.
    """
    owned: dict[str, list[str]] = {}
    for name in sorted(walk.raw):
        owned.setdefault(name.rpartition(".")[0], []).append(name)
    found: dict[LayerSide, tuple[LayerAxes, Pairs]] = {}
    for owner, names in owned.items():
        axes = _raw_axes({name.rpartition(".")[2]: model.get_parameter(name) for name in names})
        pairs = walk.raw[names[0]]
        alike = all(np.array_equal(pairs, walk.raw[name]) for name in names)
        whole = len(pairs) == axes.channels(model.get_submodule(owner), "out")
        if (owner, "out") in laid_out or not (alike and whole):
            return {}
        found[owner, "out"] = (axes, pairs)
    return found


def _raw_axes(parameters: dict[str, nn.Parameter]) -> LayerAxes:
    """Of a module that adds parameters of its own, each with the channels along its last axis."""
    first = next(iter(parameters))

    def length(module: nn.Module, side: Side) -> int:
        return module.get_parameter(first).shape[-1]

    return LayerAxes(
        out=tuple(TensorAxis(name, p.dim() - 1, "out") for name, p in parameters.items()),
        length=length,
        along=-1,
    )


def _unit_group(
    name: str,
    root: nn.Module,
    own: LayerAxes,
    walk: Walk,
    names: dict[nn.Module, str],
    raw: dict[LayerSide, tuple[LayerAxes, Pairs]],
) -> UnitGroup:
    channels = {(names[module], side): pairs for (module, side), pairs in walk.touched.items()}
    modules = {(names[module], side): module for module, side in walk.touched}
    width = own.channels(root, "out")
    unit_of = _units(width, channels, modules)
    residual, why_not = _residual(unit_of, channels, modules, walk)
    followed = raw and (residual or why_not)
    held = [walk.why_raw] if walk.raw and not followed else []
    reasons: dict[str, list[str]] = {"no_shrink": [*held], "no_grow": [*held]}
    members = []
    placed = {at: (axes_of(modules[at]), pairs) for at, pairs in channels.items()}
    for at, (axes, pairs) in {**placed, **raw}.items():
        if axes is None or not (axes.side(at[1]) or axes.sizes(at[1])):
            continue
        if at[1] == "out" and axes.no_shrink:
            reasons["no_shrink"].append(f"it passes {at[0]!r}: {axes.no_shrink}")
        if at[1] == "out" and axes.no_grow and not (residual and axes.norm):
            but = f", and {why_not}" if axes.norm else ""
            reasons["no_grow"].append(f"it passes {at[0]!r}: {axes.no_grow}{but}")
        positions = _positions(unit_of, pairs)
        if positions is None:
            reason = f"its units hold different numbers of positions in {at[0]!r}"
            reasons["no_shrink"].append(reason)
            reasons["no_grow"].append(reason)
            positions = torch.zeros(0, 0, dtype=torch.int64)
        members.append(Member(*at, positions, _runs(positions, axes, at[1]), axes))
    count = int(unit_of.max()) + 1
    return UnitGroup(
        name,
        own.unit if count == width else f"sets of {width // count} {own.unit}",
        tuple(range(count)),
        (0,) * count,
        tuple(members),
        count,
        no_shrink=next(iter(reasons["no_shrink"]), ""),
        no_grow=next(iter(reasons["no_grow"]), ""),
        residual=residual,
    )


def _residual(
    unit_of: Pairs, channels: Channels, modules: dict[LayerSide, nn.Module], walk: Walk
) -> tuple[Residual, str]:
    """What fresh units are before the norms they pass; else "", and why they cannot pass."""
    norms = {}
    for at in channels:
        axes = axes_of(modules[at])
        if axes is not None and axes.norm is not None:
            norms[at] = axes.norm
    for at, norm in norms.items():
        if getattr(modules[at], norm.gain, None) is None:
            return "", f"{at[0]!r} has no gain to take up that their variance becomes smaller"
        positions = _positions(unit_of, channels[at])
        width = len(getattr(modules[at], norm.gain))
        if positions is None or positions.shape != (width, 1):
            return "", f"{at[0]!r} norms other channels with them"
    return residual_of(walk.points) if norms else ("", "")


def _units(width: int, channels: Channels, modules: dict[LayerSide, nn.Module]) -> Pairs:
    """The unit of every root channel: channels that some layer holds together are one unit."""
    together = [_held_together(modules[at], at[1], pairs) for at, pairs in channels.items()]
    parent = list(range(width))

    def find(channel: int) -> int:
        while parent[channel] != channel:
            parent[channel] = parent[parent[channel]]
            channel = parent[channel]
        return channel

    for one, other in np.unique(np.concatenate(together), axis=0).tolist():
        parent[max(find(one), find(other))] = min(find(one), find(other))
    roots = np.array([find(channel) for channel in range(width)])
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def _held_together(module: nn.Module, side: Side, pairs: Pairs) -> Pairs:
    """[n, 2] root channels that share a position, or a place in the parts of a layer."""
    axes = axes_of(module)
    none = np.zeros((0, 2), dtype=np.int64)
    if axes is None:
        return none
    tie = axes.out_tie if side == "out" else 1
    parts = axes.out_parts if side == "out" else axes.in_parts
    place = pairs[:, 1] % (axes.channels(module, side) // parts) // tie
    if np.bincount(place).max() == 1:
        return none
    order = np.argsort(place, kind="stable")
    same = np.flatnonzero(np.diff(place[order]) == 0)
    found: Pairs = np.stack([pairs[order[same], 0], pairs[order[same + 1], 0]], axis=1)
    different: Pairs = found[found[:, 0] != found[:, 1]]
    return different


def _positions(unit_of: Pairs, pairs: Pairs) -> Tensor | None:
    """[U, m] positions by unit, ascending; None if units hold different numbers of them."""
    step = int(pairs[:, 1].max()) + 1
    held = np.unique(unit_of[pairs[:, 0]] * step + pairs[:, 1])
    counts = np.bincount(held // step, minlength=int(unit_of.max()) + 1)
    if (counts != counts[0]).any():
        return None
    return torch.from_numpy((held % step).reshape(len(counts), -1))


def _runs(positions: Tensor, axes: LayerAxes, side: Side) -> tuple[int, ...]:
    """Lengths of the runs of consecutive positions of a unit, finest where units disagree."""
    if not positions.numel():
        return ()
    parts = axes.out_parts if side == "out" else axes.in_parts
    per_part = positions.shape[1] // parts
    breaks = (positions.diff(dim=1) != 1).any(0)
    breaks |= torch.arange(1, positions.shape[1]) % per_part == 0 if parts > 1 else breaks
    ends = [*(breaks.nonzero().squeeze(1) + 1).tolist(), positions.shape[1]]
    return tuple(stop - start for start, stop in zip([0, *ends], ends, strict=False))


def _laid_out(model: nn.Module, module: str, layout: Layout) -> UnitGroup:
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
