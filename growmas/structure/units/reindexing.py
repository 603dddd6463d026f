"""Re-indexing: from a plan to the new order of every layer side that it changes.

A worked example. A convolution gives three channels of 2 × 2 pixels, which a Linear reads
flattened, so unit 1 is channel 1 of the convolution and the features 4 to 7 of the Linear. It is to
be removed, and one unit added:

    >>> import growmas
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    >>> groups = growmas.Structure(net, torch.rand(5, 1, 4, 4)).groups
    >>> plan = Plan(prune={"0": [1]}, grow={"0": 1})
    >>> new = reindexing(groups, plan, {("0", "out"): 3, ("2", "in"): 12}, task=4)

The result is the old position at each new one, −1 for fresh entries, and the group afterwards:

    >>> new.sources["0", "out"].tolist()
    [0, 2, -1]
    >>> new.sources["2", "in"].tolist()
    [0, 1, 2, 3, 8, 9, 10, 11, -1, -1, -1, -1]
    >>> new.groups["0"].unit_ids, new.groups["0"].births
    ((0, 2, 3), (0, 0, 4))

Fresh units need positions on every side without knowledge of what the layers do. The last unit of
the group is the template: each run of consecutive positions that it holds is copied once for each
fresh unit, right behind the run itself. Above, the template holds one run, the features 8 to 11, so
its copies stand behind feature 11. A head of a fused q, k, v layer holds three runs, one in each
third of the layer; copies behind each of them leave q, k and v in three equal parts. The same rule
covers rows, concatenations and residual sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from growmas.structure.layers.axes import Side
from growmas.structure.units.groups import Member, UnitGroup
from growmas.structure.units.plan import Plan

LayerSide = tuple[str, Side]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Reindexing:
    """The order of units and channels after a plan.

    Attributes:
        sources: (layer, side) -> [new length] old positions, −1 for fresh ones.
        groups: Every group, with new ids and positions.
        born: Group name -> ids of the new units.
        died: Group name -> ids of the removed units.
    """

    sources: dict[LayerSide, Tensor]
    groups: dict[str, UnitGroup]
    born: dict[str, tuple[int, ...]]
    died: dict[str, tuple[int, ...]]


def reindexing(
    groups: Mapping[str, UnitGroup], plan: Plan, lengths: Mapping[LayerSide, int], task: int
) -> Reindexing:
    """Drop the plan's units and put its fresh ones behind the last unit of their group.

    Args:
        groups: The groups as they are.
        plan: A plan that fits them.
        lengths: Length of every layer side that the plan's groups occupy.
        task: Index of the task in which the fresh units are born.
    """
    pruned = {name: set(ids) for name, ids in plan.removed.items()}
    grown = plan.added
    orders = _orders(groups, pruned, grown, lengths)
    # A group that the plan does not name moves too if it shares a side with one that it names, as
    # the parts of a concatenation do.
    moved = {
        name: _moved(group, pruned.get(name, set()), grown.get(name, 0), task, orders)
        for name, group in groups.items()
        if not group.sides.isdisjoint(orders)
    }
    return Reindexing(
        {at: order.source for at, order in orders.items()},
        {**groups, **moved},
        born={name: moved[name].unit_ids[-count:] for name, count in grown.items()},
        died={name: tuple(sorted(ids)) for name, ids in pruned.items()},
    )


def _orders(
    groups: Mapping[str, UnitGroup],
    pruned: Mapping[str, set[int]],
    grown: Mapping[str, int],
    lengths: Mapping[LayerSide, int],
) -> "dict[LayerSide, _SideOrder]":
    """Return the new order of every side that changes.

    The sides of a layer, its norm and its readers mostly hold the same positions, as one object:
    their order is found once.
    """
    held: dict[LayerSide, list[tuple[UnitGroup, Member]]] = {}
    for name, group in groups.items():
        for member in group.members if name in pruned or name in grown else ():
            held.setdefault((member.layer, member.side), []).append((group, member))
    found: dict[object, _SideOrder] = {}
    orders = {}
    for at, members in held.items():
        same = tuple((g.name, id(m.positions), m.runs) for g, m in members)
        order = found.get((lengths[at], same))
        if order is None:
            order = found[lengths[at], same] = _SideOrder(lengths[at])
            for group, member in members:
                name = group.name
                if name in pruned:
                    order.drop(member.positions[group.mask(pruned[name])])
                if name in grown:
                    order.insert_after(name, member, grown[name])
        orders[at] = order
    return orders


class _SideOrder:
    """The new order of one layer side, collected group by group.

    Old entries are known by their old positions, 0 to `length` − 1. Fresh entries have no old
    position, so each gets a token from `length` up; by its token it is found again when the
    positions of the fresh units are asked for.

    In numpy, whose operations on a few hundred numbers take a tenth of the time of torch's.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.kept = np.ones(length, dtype=np.bool_)
        self.after: list[Indices] = []
        self.tokens: list[Indices] = []
        self.first_token: dict[str, int] = {}
        self.fresh = 0

    def drop(self, positions: Tensor) -> None:
        self.kept[positions.numpy()] = False

    def insert_after(self, group: str, member: Member, count: int) -> None:
        """Insert `count` copies of each run of the last unit behind that run."""
        template = member.positions[-1].numpy()
        width = len(template)
        first = self.length + self.fresh
        self.first_token[group] = first
        self.fresh += count * width
        # Row j has the tokens of fresh unit j, in the order of the template's positions.
        tokens = np.arange(first, first + count * width).reshape(count, width)
        stop = 0
        for length in member.runs:
            start, stop = stop, stop + length
            run = tokens[:, start:stop].reshape(-1)
            self.tokens.append(run)
            self.after.append(np.full(len(run), template[stop - 1]))

    @cached_property
    def order(self) -> Indices:
        """Old positions and tokens, in the new order."""
        kept = self.kept.nonzero()[0]
        if not self.tokens:
            return kept
        # Sort by the old position that an entry is, or stands behind. The sort is stable, so the
        # old entry comes first and its copies follow. A template that is dropped itself still
        # says where its copies stand.
        everything, keys = np.concatenate([kept, *self.tokens]), np.concatenate([kept, *self.after])
        order: Indices = everything[np.argsort(keys, kind="stable")]
        return order

    @cached_property
    def source(self) -> Tensor:
        """New position -> old position, −1 for a token."""
        return torch.from_numpy(np.where(self.order < self.length, self.order, -1))

    @cached_property
    def inverse(self) -> Indices:
        """Old position or token -> new position."""
        inverse = np.full(self.length + self.fresh, -1)
        inverse[self.order] = np.arange(len(self.order))
        return inverse


def _moved(
    group: UnitGroup,
    pruned: set[int],
    grown: int,
    task: int,
    orders: Mapping[LayerSide, _SideOrder],
) -> UnitGroup:
    """Return the group after the edit: survivors first, in their order, then the fresh units."""
    removed = group.mask(pruned).numpy() if pruned else None
    members = []
    moved: dict[tuple[int, int], Tensor] = {}
    for member in group.members:
        order = orders.get((member.layer, member.side))
        if order is None:
            members.append(member)
            continue
        alike = id(order), id(member.positions)
        if alike not in moved:
            width = member.positions.shape[1]
            held = member.positions.numpy()
            old = order.inverse[held if removed is None else held[~removed]]
            first = order.first_token.get(group.name, 0)
            new = order.inverse[first : first + grown * width].reshape(grown, width)
            moved[alike] = torch.from_numpy(np.concatenate([old, new]))
        # `replace` takes ten times as long
        rest = member.runs, member.axes, member.path, member.reads
        members.append(Member(member.layer, member.side, moved[alike], *rest))
    unit_ids, births = group.unit_ids, group.births
    if removed is not None:
        kept = (~removed).tolist()
        unit_ids, births = tuple(compress(unit_ids, kept)), tuple(compress(births, kept))
    return replace(
        group,
        unit_ids=(*unit_ids, *range(group.next_id, group.next_id + grown)),
        births=(*births, *(task,) * grown),
        members=tuple(members),
        next_id=group.next_id + grown,
    )
