"""Origins: where the values of a config were written."""

from collections.abc import Mapping
from typing import NamedTuple

from growmas.config.formatting import KeyPath


class Origin(NamedTuple):
    """Place of a value; origins sort in reading order, overrides last."""

    order: float
    label: str


class Origins:
    """Places of all values of an experiment.

    All origins are equal: where a value was written does not change an experiment.
    """

    def __init__(self, places: Mapping[KeyPath, Origin] | None = None) -> None:
        self._places = dict(places or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    def __hash__(self) -> int:
        return 0

    def written(self, path: KeyPath) -> str | None:
        """Return "file:line" or "override key=value" of a value; None for a default."""
        place = self._places.get(path)
        return place.label if place else None

    def nearest(self, path: KeyPath) -> str:
        """Return the place of a value or of the mapping that lacks it; "" if there is none."""
        while path and path not in self._places:
            path = path[:-1]
        return self._places[path].label if path in self._places else ""
