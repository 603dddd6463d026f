"""How long units have lived, counted in steps where no tasks are named."""

from typing import Any

from growmas.structure import Edit, Structure


class Ages:
    """Counts steps, and notes at which of them units are born; follows every edit.

    Attributes:
        steps: How many steps have ended.
        births: Group name -> {unit: step of its birth}, for living units born since the start.
    """

    def __init__(self) -> None:
        """Begin to count."""
        self.steps = 0
        self.births: dict[str, dict[int, int]] = {}

    def follow(self, edit: Edit) -> None:
        """Note the newborn and forget the dead."""
        births = {name: dict(units) for name, units in self.births.items()}
        for name, units in edit.born.items():
            births.setdefault(name, {}).update(dict.fromkeys(units, self.steps))
        for name, units in edit.died.items():
            for unit in units:
                births.get(name, {}).pop(unit, None)
        self.births = births

    def of(self, structure: Structure, task: int | None) -> dict[str, tuple[int, ...]]:
        """Group name -> [U] ages.

        Args:
            structure: The units.
            task: Index of the task from which to count back; None counts steps.
        """
        if task is not None:
            return {n: tuple(task - b for b in g.births) for n, g in structure.groups.items()}
        return {
            name: tuple(self.steps - self.births.get(name, {}).get(u, 0) for u in group.unit_ids)
            for name, group in structure.groups.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        births = {n: [[u, s] for u, s in units.items()] for n, units in self.births.items()}
        return {"steps": self.steps, "births": births}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        births = {n: {int(u): int(s) for u, s in units} for n, units in state["births"].items()}
        self.steps, self.births = int(state["steps"]), births
