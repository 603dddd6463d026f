"""Population: ages and utilities of the units of one group."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from growmas.errors import DataError


class Population:
    """The units of a group, in the order of `unit_ids`.

    Attributes:
        ids: Their ids.
        born: [U] int64, the step at which each was born.
        total: [U] float64, decayed sum of utilities.
        weight: [U] float64, decayed number of measurements; total / weight is the utility.
        owed: Number of replacements, with a fraction, that a rate has added up.
        around_mean: True if utilities are taken around the mean; None before the first.
    """

    def __init__(self, ids: tuple[int, ...], step: int) -> None:
        """Start with units that are born now."""
        self.ids = ids
        self.born = np.full(len(ids), step, dtype=np.int64)
        self.total = np.zeros(len(ids))
        self.weight = np.zeros(len(ids))
        self.owed = 0.0
        self.around_mean: bool | None = None

    def follow(self, ids: tuple[int, ...], step: int) -> None:
        """Take over the units that live now; those that are new are born now."""
        if ids is self.ids:
            return
        known = {unit: index for index, unit in enumerate(self.ids)}
        old = np.array([known.get(unit, -1) for unit in ids], dtype=np.int64)
        fresh = old < 0
        self.born = np.where(fresh, step, self.born[old])
        self.total = np.where(fresh, 0.0, self.total[old])
        self.weight = np.where(fresh, 0.0, self.weight[old])
        self.ids = ids

    def renewed(self, ids: tuple[int, ...], units: Sequence[int], step: int) -> None:
        """Take over new units at the places of others."""
        where = list(units)
        self.born[where], self.total[where], self.weight[where] = step, 0.0, 0.0
        self.ids = ids

    def measure(self, utility: NDArray[np.float64], decay: float) -> None:
        """Add a measurement."""
        self.total *= decay
        self.total += (1 - decay) * utility
        self.weight *= decay
        self.weight += 1 - decay

    @property
    def utility(self) -> NDArray[np.float64]:
        """[U], the decayed mean of the utilities since each unit's birth."""
        found: NDArray[np.float64] = self.total / np.maximum(self.weight, 1e-300)
        return found

    def mature(self, step: int, maturity: int) -> NDArray[np.bool_]:
        """Return [U], true for units older than `maturity` that were measured."""
        found: NDArray[np.bool_] = (step - self.born > maturity) & (self.weight > 0)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "ids": list(self.ids),
            "born": self.born.tolist(),
            "total": self.total.tolist(),
            "weight": self.weight.tolist(),
            "owed": self.owed,
            "around_mean": self.around_mean,
        }

    @classmethod
    def restored(cls, name: str, ids: tuple[int, ...], state: Mapping[str, Any]) -> "Population":
        """Return the population that `state_dict` described.

        Raises:
            DataError: Its units are not those of the structure.
        """
        if tuple(state["ids"]) != ids:
            raise DataError(
                f"the state of the replacement is of other units of {name!r}: restore the "
                "structure first"
            )
        made = cls(ids, 0)
        made.born = np.array(state["born"], dtype=np.int64)
        made.total = np.array(state["total"], dtype=np.float64)
        made.weight = np.array(state["weight"], dtype=np.float64)
        made.owed, made.around_mean = float(state["owed"]), state["around_mean"]
        return made
