"""The choice of the units to replace, and its reason for the history."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from growmas.plasticity.population import Population
from growmas.plasticity.settings import ReplacementSettings


@dataclass(frozen=True)
class Choice:
    """The units of a group to replace.

    Attributes:
        units: Their indices, in order.
        exhausted: True if units of low utility would be replaced, but old tasks need every mature
            one.
    """

    units: list[int]
    exhausted: bool


_NOTHING = Choice([], False)


def chosen(
    settings: ReplacementSettings,
    population: Population,
    step: int,
    needed: Callable[[], NDArray[np.bool_]],
) -> Choice:
    """Return the units of a group to replace now.

    Mates come at least in twos: with a threshold, a single unit waits for another one; with a
    rate, an even number is replaced, and the rest is owed.

    Args:
        settings: Threshold or rate, and maturity.
        population: Ages and utilities.
        step: The current step.
        needed: Returns [U], true for units that old tasks need; asked only if it matters.
    """
    mature = population.mature(step, settings.maturity)
    utility = population.utility
    if settings.rate is None:
        wanted = mature & (utility < settings.threshold * utility.mean())
        most = int(wanted.sum())
    else:
        population.owed += settings.rate * settings.every * int(mature.sum())
        wanted, most = mature, int(population.owed)
    paired = settings.init == "paired"
    if most < 1 + paired or not wanted.any():
        return _NOTHING
    held = needed()
    low = np.flatnonzero(wanted & ~held)
    low = low[np.argsort(utility[low], kind="stable")]
    count = min(most, len(low), len(utility) - 1)
    if paired and (settings.rate is not None or count < 2):
        count -= count % 2
    if settings.rate is not None:
        population.owed = min(population.owed - count, float(len(utility)))
    exhausted = not bool((mature & ~held).any())
    return Choice(sorted(low[:count].tolist()), exhausted)


def reason_of(settings: ReplacementSettings, units: Mapping[str, Sequence[int]]) -> str:
    """Return why units are replaced, in a few words."""
    low = (
        f"utility below {settings.threshold:g} of the mean"
        if settings.rate is None
        else f"the least useful, {settings.rate:g} of a group per step"
    )
    counts = ", ".join(f"{name} {len(ids)}" for name, ids in units.items())
    return f"ReplaceLowUtility: {low}: {counts}"


def cause_of(
    settings: ReplacementSettings,
    populations: Mapping[str, Population],
    units: Mapping[str, Sequence[int]],
    step: int,
) -> dict[str, Any]:
    """Return why units are replaced, as JSON values.

    Args:
        settings: What counts as low.
        populations: Group name -> ages and utilities, before the replacement.
        units: Group name -> indices of the units.
        step: The current step.
    """
    word = settings.utility if isinstance(settings.utility, str) else "a function"
    found: dict[str, Any] = {"policy": "ReplaceLowUtility", "statistic": f"utility: {word}"}
    utilities = {name: populations[name].utility for name in units}
    found["value"] = {n: float(utilities[n][list(where)].max()) for n, where in units.items()}
    found["step"] = step
    if settings.rate is None:
        share = settings.threshold
        found["threshold"] = {name: share * float(utilities[name].mean()) for name in units}
    return found
