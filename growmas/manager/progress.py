"""The progress of a manager through tasks and steps, which gives units their age."""

from collections.abc import Mapping
from typing import Any

from growmas.errors import DataError
from growmas.structure import Edit, Structure


class Progress:
    """Counts steps, and records at which of them units are born; follows every edit.

    Attributes:
        open: True between the beginning and the end of a task.
        reached: The losses that the trials of tasks reached, after the growth for each.
        steps: Number of steps and tasks that have ended.
        births: Group name -> {unit: step of its birth}, for living units born since the start.
        substitutes: Group name -> ids of the living units that replaced others.
        mates: Group name -> families of living units that were born as mates.
    """

    def __init__(self, *, open: bool) -> None:
        """Start counting at 0."""
        self.open = open
        self.reached: tuple[float, ...] = ()
        self.steps = 0
        self.births: dict[str, dict[int, int]] = {}
        self.substitutes: dict[str, frozenset[int]] = {}
        self.mates: dict[str, tuple[tuple[int, ...], ...]] = {}

    def follow(self, edit: Edit) -> None:
        """Record the newborn units and forget the removed ones."""
        births = {name: dict(units) for name, units in self.births.items()}
        for name, units in edit.born.items():
            births.setdefault(name, {}).update(dict.fromkeys(units, self.steps))
        for name, units in edit.died.items():
            for unit in units:
                births.get(name, {}).pop(unit, None)
        self.births = births
        born = {name: frozenset(pairs) for name, pairs in edit.replaced_units.items()}
        self.substitutes = {
            name: self.substitutes.get(name, frozenset()).union(born.get(name, ()))
            - frozenset(edit.died.get(name, ()))
            for name in {**self.substitutes, **born}
        }
        self.mates = {
            name: tuple(
                family
                for family in (*self.mates.get(name, ()), *edit.mates.get(name, ()))
                if not set(family) & set(edit.died.get(name, ()))
            )
            for name in {**self.mates, **edit.mates}
        }

    def ages(self, structure: Structure, task: int | None) -> dict[str, tuple[int, ...]]:
        """Return the ages of units: group name -> [U].

        Args:
            structure: The network.
            task: Index of the task from which to count back; None counts steps.
        """
        if task is not None:
            return {n: tuple(task - b for b in g.births) for n, g in structure.groups.items()}
        return {
            name: tuple(self.steps - self.births.get(name, {}).get(u, 0) for u in group.unit_ids)
            for name, group in structure.groups.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        births = {n: [[u, s] for u, s in units.items()] for n, units in self.births.items()}
        return {
            "open": self.open,
            "reached": list(self.reached),
            "steps": self.steps,
            "births": births,
            "substitutes": {name: sorted(units) for name, units in self.substitutes.items()},
            "mates": {name: [list(f) for f in families] for name, families in self.mates.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned.

        Raises:
            DataError: Something is missing; nothing is loaded then.
        """
        missing = sorted(self.state_dict().keys() - state.keys() - {"substitutes", "mates"})
        if missing:
            raise DataError(f"the manager's state lacks {', '.join(missing)}")
        births = {n: {int(u): int(s) for u, s in units} for n, units in state["births"].items()}
        self.open, self.steps, self.births = bool(state["open"]), int(state["steps"]), births
        self.reached = tuple(float(loss) for loss in state["reached"])
        # states saved by versions that did not record substitutes or mates lack them
        substitutes = state.get("substitutes", {})
        self.substitutes = {n: frozenset(map(int, units)) for n, units in substitutes.items()}
        mates = state.get("mates", {})
        self.mates = {n: tuple(tuple(map(int, f)) for f in found) for n, found in mates.items()}
