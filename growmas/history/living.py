"""Units of a group that are alive after each of its events, followed from event to event."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable


class LivingUnits:
    """The units of one group that are alive after an event.

    Moving on to a later event costs what was born and died in between, not the width of the group.

    Args:
        lives: Id, event of birth (0: before all events) and event of death (None: alive) of each
            unit.

    Attributes:
        ids: Ids of the living units, in ascending order.
    """

    def __init__(self, lives: Iterable[tuple[int, int, int | None]]) -> None:
        births: list[tuple[int, int]] = []
        deaths: list[tuple[int, int]] = []
        for unit, birth, death in lives:
            births.append((birth, unit))
            if death is not None:
                deaths.append((death, unit))
        self._births, self._deaths = _columns(births), _columns(deaths)
        self.ids = array("q")
        self._born = self._died = 0
        self._event = -1

    def move_to(self, event: int) -> None:
        """Update `ids` to what is alive after an event."""
        if event < self._event:
            self.ids, self._born, self._died = array("q"), 0, 0
        self._event = event
        events, units = self._births
        while self._born < len(events) and events[self._born] <= event:
            self._insert(units[self._born])
            self._born += 1
        events, units = self._deaths
        while self._died < len(events) and events[self._died] <= event:
            self._remove(units[self._died])
            self._died += 1

    def _insert(self, unit: int) -> None:
        last = not self.ids or self.ids[-1] < unit
        at = len(self.ids) if last else bisect_left(self.ids, unit)
        self.ids.insert(at, unit)

    def _remove(self, unit: int) -> None:
        at = bisect_left(self.ids, unit)
        if at < len(self.ids) and self.ids[at] == unit:
            del self.ids[at]


def _columns(rows: list[tuple[int, int]]) -> tuple["array[int]", "array[int]"]:
    """Return events and units, sorted by event; eight bytes a number."""
    rows.sort()
    return array("q", [event for event, _ in rows]), array("q", [unit for _, unit in rows])
