"""Scalars: numbers of training by step, such as the loss of every epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from growmas.history.validation import finite_metrics

if TYPE_CHECKING:
    from growmas.history.store import Store


@dataclass(frozen=True)
class ScalarRecord:
    """Numbers of training after one step.

    Attributes:
        step: Number of training steps done so far.
        task: Name of the task that was being learnt.
        epoch: Number of the pass over its data, from 1; None where there are no passes.
        values: Name -> number.
    """

    step: int
    task: str
    epoch: int | None
    values: Mapping[str, float]


class ScalarWriting:
    """Part of `TopologyTracker` that writes scalars."""

    _store: "Store"

    def scalars(
        self, values: Mapping[str, float], *, step: int, task: str, epoch: int | None = None
    ) -> None:
        """Write numbers of training; those of the same step and name are replaced.

        Args:
            values: Finite numbers by name, such as loss and learning_rate.
            step: Number of training steps done so far.
            task: Name of the task that is being learnt.
            epoch: Number of the pass over its data, from 1.

        Raises:
            HistoryError: A number is not finite, or the file cannot be written.
        """
        numbers = finite_metrics(values)
        with self._store.transaction():
            self._store.write_scalars(step, task, epoch, numbers)


class ScalarReading:
    """Part of `TopologyHistory` that reads scalars."""

    def _rows(self, query: str, *values: object) -> list[Any]:
        raise NotImplementedError

    def scalars(self) -> tuple[ScalarRecord, ...]:
        """Return the numbers of training in the order of their steps; none if there are none."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'scalars'"):
            return ()
        found: dict[int, tuple[str, int | None, dict[str, float]]] = {}
        for step, name, value, task, epoch in self._rows(
            "SELECT step, name, value, task, epoch FROM scalars ORDER BY step, name"
        ):
            found.setdefault(step, (task, epoch, {}))[2][name] = value
        return tuple(ScalarRecord(step, *rest) for step, rest in found.items())
