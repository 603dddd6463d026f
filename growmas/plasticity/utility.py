"""Utility of units: how much they do for the layers that read them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from growmas.errors import DataError
from growmas.plasticity.settings import Utility
from growmas.structure import Structure, UnitGroup
from growmas.structure.surgery.renewal import Entries

Numbers = NDArray[np.float64]


def saturates(activations: Tensor) -> bool:
    """Return True if activations are those of a bounded function without a zero half.

    A unit of tanh or a sigmoid that is stuck at its bound is as useless as one that is stuck at
    zero. All activations of such functions lie in [−1, 1] and hardly any is exactly zero.
    """
    return bool((activations.abs() <= 1).all()) and bool((activations != 0).all())


def activity(activations: Tensor, *, around_mean: bool, squared: bool = False) -> Tensor:
    """Return [U], the mean of |h|, or the root mean square of h.

    A unit that gives a on a share p of the samples has p·a and √p·a: by the mean a unit that is
    strong on a few samples, such as one that holds them apart from all others, looks useless.

    Args:
        activations: [N, U, m].
        around_mean: True takes the mean of each channel out.
        squared: True for the root mean square.
    """
    if around_mean:
        activations = activations - activations.mean(0)
    if squared:
        return activations.square().mean((0, 2)).sqrt()
    return activations.abs().mean((0, 2))


def outgoing(entries: tuple[Entries, ...]) -> Tensor:
    """Return [U], the sum of |weights| that read each unit."""
    total: Tensor | None = None
    for each in entries:
        if each.role != "in":
            continue
        units, held = each.positions.shape
        sums = each.tensor.detach().abs().movedim(each.dim, 0).flatten(1).sum(1)
        part = sums[each.positions.to(sums.device)].view(units, held).sum(1)
        total = part if total is None else total + part.to(total)
    return torch.ones(()) if total is None else total


def measured(
    utility: Utility,
    group: UnitGroup,
    activations: Tensor,
    entries: tuple[Entries, ...],
    *,
    around_mean: bool,
) -> Numbers:
    """Return [U], the utility of every unit of a group on one batch.

    Args:
        utility: "rms", "activation", "contribution", or a function.
        group: The group.
        activations: [N, U, m].
        entries: The group's entries.
        around_mean: See `activity`.

    Raises:
        DataError: A function returned something that is not U finite numbers, or activations are
            NaN.
    """
    found: Any
    if callable(utility):
        found = utility(group, activations.mean(2))
        _check(group, found)
    else:
        found = activity(activations, around_mean=around_mean, squared=utility == "rms")
        if utility == "contribution":
            found = found * outgoing(entries).to(found)
    return finite(group.name, _numbers(found))


def by_importance(
    structure: Structure, omega: Mapping[str, Tensor], names: tuple[str, ...]
) -> dict[str, Numbers]:
    """Return Σ Ω θ² over the weights that read each unit: group name -> [U]."""
    found = structure.saliency(omega)
    return {name: finite(name, _numbers(found[name])) for name in names}


def finite(name: str, values: Numbers) -> Numbers:
    """Return utilities; refuse those that are not finite.

    Raises:
        DataError: Names the group.
    """
    if not np.isfinite(values).all():
        raise DataError(
            f"the utility of {name!r} is NaN or infinite for {int((~np.isfinite(values)).sum())} "
            f"of {len(values)} units: look for NaN in the data, the parameters or utility="
        )
    return values


def _numbers(found: Tensor) -> Numbers:
    numbers: Numbers = found.detach().double().cpu().numpy()
    return numbers


def _check(group: UnitGroup, found: object) -> None:
    if not isinstance(found, Tensor) or found.shape != (group.width,):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise DataError(
            f"utility= returned {shape} for {group.name!r}: expected a tensor of shape "
            f"({group.width},), a number for each unit"
        )
