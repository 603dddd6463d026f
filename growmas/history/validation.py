"""Checks of the metrics and frozen units that a snapshot is given."""

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from growmas.errors import HistoryError
from growmas.history.suggestion import suggest

if TYPE_CHECKING:
    from growmas.structure import UnitGroup


def finite_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as floats.

    Raises:
        HistoryError: If one is not a finite number.
    """
    numbers = {}
    for name, value in metrics.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise HistoryError(
                f"metrics: {name}={value!r:.80} is not a number; pass finite numbers by name"
            ) from error
    bad = [f"{name} = {value}" for name, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise HistoryError(f"metrics must be finite, leave these out: {', '.join(bad)}")
    return numbers


def check_frozen(groups: "Mapping[str, UnitGroup]", frozen: Mapping[str, Collection[int]]) -> None:
    """Check that all frozen units are alive.

    Raises:
        HistoryError: If a group does not exist or a unit is not alive.
    """
    for name, units in frozen.items():
        if name not in groups:
            hint = suggest(name, list(groups))
            raise HistoryError(f"frozen: the structure has no group {name!r}; {hint}")
        dead = sorted({*units} - {*groups[name].unit_ids})
        if dead:
            raise HistoryError(
                f"frozen: {len(dead)} units of {name!r} are not alive (unit {dead[0]}): "
                "pass ids from structure.groups"
            )
