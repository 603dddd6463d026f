"""Units and their positions, worked out from what a walk has reached.

A unit is a set of channels that only come and go together. Channels belong together if the walk
saw them meet, if they share a place in the parts of a layer (the groups of a convolution, a run of
GroupNorm), or if the code of the model cuts an axis so that only whole slices of it fit:

    the walk from a layer of 8 channels, viewed as [N, 2, 4, …] and added up over the axis of two:

    met                 0–4, 1–5, 2–6, 3–7
    units               {0, 4} {1, 5} {2, 6} {3, 7}
    rows of the layer   [[0, 4], [1, 5], [2, 6], [3, 7]], runs (1, 1)

A fresh unit takes one place behind each run of the last unit: behind row 3 and behind row 7.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from growmas.structure.analysis.labels import Indices, Labels, distinct
from growmas.structure.layers.axes import LayerAxes, Side, axes_of

LayerSide = tuple[str, Side]


def units_of(
    width: int,
    together: Indices,
    splits: Sequence[Labels],
    sides: Mapping[LayerSide, Indices],
    modules: Mapping[LayerSide, nn.Module],
) -> Indices:
    """Return the unit of every channel of the root, numbered in the order of first channels.

    Args:
        width: Number of channels of the root.
        together: [n, 2] channels that met.
        splits: Channels along the axes that a reshape makes of one.
        sides: Side of a layer -> channel of the root at every position, −1 for none.
        modules: The layers.
    """
    pairs = [together, *(_held_together(modules[at], at[1], found) for at, found in sides.items())]
    units = _components(width, np.concatenate(pairs))
    while True:
        more = [_whole_slices(np.where(s >= 0, units[s], -1), s) for s in splits]
        if not sum(map(len, more)):
            return units
        pairs += more
        units = _components(width, np.concatenate(pairs))


def _components(width: int, pairs: Indices) -> Indices:
    """Return the connected component of every channel, numbered by first channels.

    Both ends of a pair take the lesser of their numbers, again and again; in between every channel
    takes the number of its number, which makes long chains short.
    """
    root = np.arange(width, dtype=np.int64)
    codes = distinct(pairs[:, 0] * width + pairs[:, 1])
    if not len(codes):
        return root
    one, other = codes // width, codes % width
    while True:
        least = np.minimum(root[one], root[other])
        if (root[one] == least).all() and (root[other] == least).all():
            break
        np.minimum.at(root, root[one], least)
        np.minimum.at(root, root[other], least)
        while not (root[root] == root).all():
            root = root[root]
    return np.unique(root, return_inverse=True)[1].astype(np.int64)


def _held_together(module: nn.Module, side: Side, channels: Indices) -> Indices:
    """Return [n, 2] channels of the root that share a place in the parts of a layer."""
    axes = axes_of(module)
    none = np.zeros((0, 2), dtype=np.int64)
    if axes is None:
        return none
    tie = axes.out_tie if side == "out" else 1
    parts = axes.out_parts if side == "out" else axes.in_parts
    if tie == parts == 1:
        return none
    positions = np.flatnonzero(channels >= 0)
    place = positions % (axes.channels(module, side) // parts) // tie
    if not len(place) or np.bincount(place).max() == 1:
        return none
    order = np.argsort(place, kind="stable")
    same = np.flatnonzero(np.diff(place[order]) == 0)
    held = channels[positions[order]]
    found: Indices = np.stack([held[same], held[same + 1]], axis=1)
    different: Indices = found[found[:, 0] != found[:, 1]]
    return different


def _whole_slices(units: Labels, channels: Labels) -> Indices:
    """Return pairs of channels that make units whole slices along one of several axes.

    The lengths of the axes are numbers in the code of the model, all but one. Where units are
    finer than any slice, slices along an axis are units, which fixes the shorter ones: the axis is
    that which ties the fewest channels together, the longest if there are several.
    """
    longest_first = np.argsort([-length for length in units.shape], kind="stable")
    found = [
        _within_slices(np.moveaxis(channels, axis, 0), np.moveaxis(units, axis, 0))
        for axis in longest_first
    ]
    return min(found, key=len)


def _within_slices(channels: Labels, units: Labels) -> Indices:
    """Return pairs of channels of different units that lie in one slice along the first axis."""
    length = len(channels)
    channels, units = channels.reshape(length, -1), units.reshape(length, -1)
    first = np.broadcast_to(channels[:, :1], channels.shape)
    differ = (units != units[:, :1]) & (channels >= 0) & (first >= 0)
    pairs: Indices = np.stack([first[differ], channels[differ]], axis=1)
    return pairs


def positions_of(units: Indices, channels: Indices) -> tuple[Indices, Indices]:
    """Return ([n] units, [n] positions) that hold a channel of the root, by unit and position."""
    positions = np.flatnonzero(channels >= 0)
    owners = units[channels[positions]]
    if (owners[1:] >= owners[:-1]).all():
        return owners, positions
    order = np.argsort(owners, kind="stable")
    return owners[order], positions[order]


def runs_of(positions: Tensor, axes: LayerAxes, side: Side) -> tuple[int, ...]:
    """Return the lengths of the runs of positions of a unit, finest where units disagree."""
    if not positions.numel():
        return ()
    if positions.shape[1] == 1:
        return (1,)
    parts = axes.out_parts if side == "out" else axes.in_parts
    per_part = positions.shape[1] // parts
    breaks = (positions.diff(dim=1) != 1).any(0)
    breaks |= torch.arange(1, positions.shape[1]) % per_part == 0 if parts > 1 else breaks
    ends = [*(breaks.nonzero().squeeze(1) + 1).tolist(), positions.shape[1]]
    return tuple(stop - start for start, stop in zip([0, *ends], ends, strict=False))


def kinds_of_units(
    free: Indices, count: int, sides: Mapping[LayerSide, tuple[Indices, Indices]]
) -> Iterable[Indices]:
    """Give the units apart that hold different numbers of positions, as two halves used unequally.

    Args:
        free: The units that can change.
        count: Number of units.
        sides: Side of a layer -> units and their positions, see `positions_of`.
    """
    counts = np.stack([np.bincount(units, minlength=count) for units, _ in sides.values()], axis=1)
    if (counts == counts[:1]).all():
        yield from [free] if len(free) else []
        return
    kinds = np.unique(counts, axis=0, return_inverse=True)[1].reshape(-1)
    for kind in dict.fromkeys(kinds[free].tolist()):
        yield free[kinds[free] == kind]
