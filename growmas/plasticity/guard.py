"""Guard of the units that old tasks need."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from growmas.penalty import MAS
from growmas.structure import UnitGroup
from growmas.structure.surgery.renewal import Entries

Frozen = Callable[[], Mapping[str, Collection[int]]]
"""Function that returns the units that are never replaced: group name -> ids."""


def need(mas: MAS, entries: tuple[Entries, ...]) -> Tensor | None:
    """Return [U], Σ Ω θ*² over the weights that read each unit; None without importance.

    Args:
        mas: Importance and anchors.
        entries: The entries of the units.
    """
    total: Tensor | None = None
    for each in entries:
        omega, anchor = mas.omega.get(each.name), mas.anchor.get(each.name)
        if each.role != "in" or omega is None or anchor is None:
            continue
        units, held = each.positions.shape
        penalty = (omega * anchor.square()).movedim(each.dim, 0).flatten(1).sum(1)
        part = penalty[each.positions.to(penalty.device)].view(units, held).sum(1)
        total = part if total is None else total + part.to(total)
    return total


def guarded(
    mas: MAS | None, group: UnitGroup, entries: tuple[Entries, ...], share: float | None
) -> NDArray[np.bool_]:
    """Return [U], true for units that old tasks need.

    Args:
        mas: Importance and anchors over tasks; None guards nothing.
        group: The group.
        entries: Its entries.
        share: Share of the group's mean above which a unit is needed; None guards nothing.
    """
    none = np.zeros(group.width, dtype=np.bool_)
    if mas is None or share is None or not mas.omega:
        return none
    with torch.no_grad():
        found = need(mas, entries)
    if found is None:
        return none
    held: NDArray[np.bool_] = (found > share * found.mean()).cpu().numpy()
    return held
