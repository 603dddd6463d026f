"""Sizes: attributes of modules that change with the units of a group, as its members."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from growmas.structure.analysis.attributes import is_pairs, number_of
from growmas.structure.analysis.labels import Indices
from growmas.structure.analysis.reached import Reached
from growmas.structure.layers.axes import LayerAxes, Side, Size
from growmas.structure.units.groups import Member

LayerSide = tuple[str, Side]
_OF_EINOPS = "_axes_lengths"
"""Numbers of a layer of einops, which it has under "axes_lengths", too."""
_NUMBERS_OF_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_key_value_heads")


def attributes(
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


def _size_of(name: str, entry: int | None) -> LayerAxes:
    """Return the axes of a module of which only an attribute, or an entry of one, changes."""
    if entry is None:
        return LayerAxes(
            out=(), out_size=(Size(name),), length=lambda module, side: int(getattr(module, name))
        )

    def value(module: nn.Module, length: int) -> Sequence[Any]:
        before = getattr(module, name)
        fresh = (before[entry][0], length) if is_pairs(before) else length
        return type(before)([*before[:entry], fresh, *before[entry + 1 :]])  # type: ignore[no-any-return]

    def now(module: nn.Module, side: Side) -> int:
        return number_of(module, name, entry)

    def named(module: Any, length: int) -> dict[str, int]:
        return {**module.axes_lengths, getattr(module, name)[entry][0]: length}

    sizes = (Size(name, value), *([Size("axes_lengths", named)] if name == _OF_EINOPS else []))
    return LayerAxes(out=(), out_size=sizes, length=now)


def whole_transformers(model: nn.Module, members: Iterable[Member]) -> list[Member]:
    """Return the width that an `nn.Transformer` compares its inputs with, for units it norms."""
    normed = [member for member in members if member.axes.norm is not None]
    found = []
    for name, module in model.named_modules() if normed else ():
        if isinstance(module, nn.Transformer):
            within = [m for m in normed if m.layer.startswith(f"{name}." if name else "")]
            axes = LayerAxes(out=(), out_size=(Size("d_model"),))
            found += [Member(name, "d_model", m.positions, m.runs, axes) for m in within[:1]]
    return found


def numbers_of_heads(model: nn.Module, members: list[Member], units: int) -> list[Member]:
    """Return the numbers of heads that the module of the heads only compares shapes with."""
    name = heads_name("", members).rpartition(".")[0]
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


def heads_name(root: str, members: Iterable[Member]) -> str:
    """Name heads after the module that holds all their layers, as registered layouts do."""
    paths = [member.layer.split(".") for member in members]
    shared = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    within = shared if any(len(shared) < len(path) for path in paths) else shared[:-1]
    return ".".join([*within, "heads"]) if within else f"{root}.heads"
