"""Coupling: groups that change only together, since the code gives the width of one to another.

Many attention layers compute the size of their heads from the width of what they read:

    n, t, c = x.shape
    q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
    ...
    return self.proj(y.reshape(n, t, c))

Neither a head alone can be added, for the size of the others would become smaller, nor a channel of
the residual path alone. A head of every layer on the path, and as many channels of the path as a
head has, can: c // heads stays as it is. So the groups become one. With 12 channels and 3 heads of
size 4, a unit is

    channels of the path    0 1 2 3       4 5 6 7       8 9 10 11
    heads of each layer     0             1             2

Which channels a unit takes is arbitrary, since no code cuts the path into heads. Where none of the
groups are heads, a unit is one channel of each, as in `y = self.reduce(x).reshape(n, c, -1)`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import gcd

import torch

from growmas.structure.analysis.unit_positions import runs_of
from growmas.structure.units.groups import Member, UnitGroup


@dataclass(frozen=True)
class Lengths:
    """Numbers of the lengths that code reads from the channels of a group, and gives to them."""

    given: frozenset[int]
    taken: frozenset[int]


def coupled(
    groups: Mapping[str, UnitGroup], lengths: Mapping[str, Lengths]
) -> dict[str, UnitGroup]:
    """Make one group of those that share a width.

    Groups that do not fit stay as they are; the verification refuses what it must.
    """
    found = dict(groups)
    for names in _components(groups, lengths):
        one = _together([groups[name] for name in names])
        if one is not None:
            for name in names:
                del found[name]
            found[one.name] = one
    return found


def _components(
    groups: Mapping[str, UnitGroup], lengths: Mapping[str, Lengths]
) -> Iterable[list[str]]:
    """Give the sets of several groups that share lengths, each in the order of the groups."""
    none = Lengths(frozenset(), frozenset())
    sets: list[set[str]] = []
    for name in groups:
        given = lengths.get(name, none).given
        mine = {other for other in groups if given & lengths.get(other, none).taken} | {name}
        touched = [each for each in sets if each & mine]
        sets = [each for each in sets if not each & mine]
        sets.append(mine.union(*touched))
    return [[name for name in groups if name in each] for each in sets if len(each) > 1]


def _together(groups: list[UnitGroup]) -> UnitGroup | None:
    """Return one group of several, or None where they do not fit."""
    count = gcd(*(group.width for group in groups))
    path = next((group for group in groups if group.residual), groups[0])
    kinds = {group.residual for group in groups} - {""}
    plain = all(
        m.positions.shape[1] == 1 or m.side == "in" for g in groups if g.residual for m in g.members
    )
    spans = {g.width // count for g in groups if g.residual}
    if count < 2 or not plain or len(kinds) > 1 or len(spans) > 1:
        return None
    paths = [group for group in groups if group.residual]
    members = [
        _of_slices(member, count, paths.index(group) if group in paths else -1)
        for group in (*paths, *(group for group in groups if group not in paths))
        for member in group.members
    ]
    heads = next((group for group in groups if "heads" in group.kind), None)
    span = path.width // count
    each = f" with {span} {path.kind} each" if span > 1 else ""
    return replace(
        path,
        name=groups[0].name,
        kind=f"{heads.kind if heads else path.kind}{each}",
        unit_ids=tuple(range(count)),
        births=(0,) * count,
        next_id=count,
        members=tuple(members),
        no_shrink=next((group.no_shrink for group in groups if group.no_shrink), ""),
        no_grow=next((group.no_grow for group in groups if group.no_grow), ""),
        approximate=all(group.can_shrink or group.approximate for group in groups),
        span=span,
        scales={layer: scale for group in groups for layer, scale in group.scales.items()},
    )


def _of_slices(member: Member, count: int, path: int) -> Member:
    """Return a side with equal numbers of old units to a new one."""
    share = member.positions.shape[1]
    positions = member.positions.reshape(count, -1)
    if path < 0 or share > 1:  # the channels of a path keep their order
        order = positions.argsort(dim=1)
        positions = positions.gather(1, order)
        read = torch.zeros_like(member.positions)
        read[:, list(member.reads)] = 1
        first = read.reshape(count, -1)[0, order[0]]
        member = replace(member, reads=tuple(first.nonzero().flatten().tolist()))
    runs = runs_of(positions, member.axes, member.side)
    return replace(member, positions=positions, runs=runs, path=path)
