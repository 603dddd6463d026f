"""Sizes: attributes of modules that change with the units of a group, as its members."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from growmas.structure.analysis.attributes import (
    CONFIGURATIONS,
    Counted,
    Entry,
    is_pairs,
    number_of,
)
from growmas.structure.analysis.labels import Indices
from growmas.structure.analysis.reached import Reached
from growmas.structure.layers.axes import LayerAxes, Side, Size
from growmas.structure.units.groups import Member

LayerSide = tuple[str, Side]
_OF_EINOPS = "_axes_lengths"
"""Numbers of a layer of einops, which it has under "axes_lengths", too."""
_QUERY_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_REPEATS = ("num_key_value_groups", "n_rep")
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
        at = (names[use.module], _side(use.name, use.entry))
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


def _side(name: str, entry: Entry) -> Side:
    """Name an attribute, or one of its numbers, as the side of a module."""
    if entry is None:
        return name
    return f"{name}.{entry}" if isinstance(entry, str) else f"{name}[{entry}]"


def _configured(name: str, entry: str) -> LayerAxes:
    """Return the axes of a module of which only a number of its configuration changes."""

    def value(module: nn.Module, length: int) -> Any:
        own = copy.copy(getattr(module, name))  # others share the one it has
        vars(own)[entry] = length
        return own

    return LayerAxes(
        out=(),
        out_size=(Size(name, value),),
        length=lambda module, side: number_of(module, name, entry),
    )


def _size_of(name: str, entry: Entry) -> LayerAxes:
    """Return the axes of a module of which only an attribute, or an entry of one, changes."""
    if entry is None:
        return LayerAxes(
            out=(), out_size=(Size(name),), length=lambda module, side: int(getattr(module, name))
        )

    if isinstance(entry, str):
        return _configured(name, entry)

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


def numbers_of_heads(
    model: nn.Module, members: list[Member], units: int, counted: Counted
) -> list[Member]:
    """Return the numbers of heads that the module of the heads compares shapes with, or slices by.

    Those of its own, and those of its configuration that it multiplies.
    """
    name = heads_name("", members).rpartition(".")[0]
    known = {(member.layer, member.side) for member in members}
    module = model.get_submodule(name)
    places: list[tuple[str, Entry]] = [(each, None) for each in _NUMBERS_OF_HEADS]
    places += [(at, entry) for owner, at, entry in counted if owner is module and _is_heads(entry)]
    if units in _query_heads(module):
        # each query head is a unit: keys and values, of one head, are repeated for all of them
        places += [(each, None) for each in _REPEATS if vars(module).get(each) == units]
    found = []
    for attribute, entry in places:
        held = vars(module).get(attribute)
        value = held if entry is None else vars(held).get(str(entry))
        side = _side(attribute, entry)
        if type(value) is int and value % units == 0 and (name, side) not in known:
            share = value // units
            positions = torch.arange(value).view(units, share)
            found.append(Member(name, side, positions, (share,), _size_of(attribute, entry)))
    return found


def _query_heads(module: nn.Module) -> set[Any]:
    """Return what a module, or its configuration, says about its number of query heads."""
    held = [vars(module), *(vars(module).get(each) for each in CONFIGURATIONS)]
    known = (each if isinstance(each, dict) else getattr(each, "__dict__", {}) for each in held)
    return {each.get(name) for each in known for name in _QUERY_HEADS}


def _is_heads(entry: Entry) -> bool:
    return entry in _NUMBERS_OF_HEADS


def heads_name(root: str, members: Iterable[Member]) -> str:
    """Name heads after the module that holds all their layers, as registered layouts do."""
    paths = [member.layer.split(".") for member in members]
    shared = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    within = shared if any(len(shared) < len(path) for path in paths) else shared[:-1]
    return ".".join([*within, "heads"]) if within else f"{root}.heads"
