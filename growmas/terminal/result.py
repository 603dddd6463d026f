"""A run's metrics.json as a record, and the numbers that the tables take from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from growmas.errors import RunError
from growmas.metrics import average_accuracy, backward_transfer, forgetting


@dataclass(frozen=True)
class RunResult:
    """What one run reports.

    Attributes:
        name: The run's name.
        method: How it learns.
        stream: Which tasks it learns.
        scenario: What is known when it answers, for example the task.
        seed: Of its randomness.
        tasks: Names of all tasks, T of them.
        accuracy: R[i][j], accuracy on task j after task i; one row per task learnt so far.
        parameters: Parameter count at the end.
        units: Units per group at the end.
        seconds: How long it took.
        status: "finished" or "unfinished".
    """

    name: str
    method: str
    stream: str
    scenario: str
    seed: int
    tasks: Sequence[str]
    accuracy: Sequence[Sequence[float]]
    parameters: int
    units: Mapping[str, int]
    seconds: float
    status: str

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "RunResult":
        """Take the keys that the record has; others are left alone.

        Raises:
            RunError: If keys are missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in data]
        if missing:
            run = data.get("name", "a run")
            raise RunError(f"the metrics of {run!r} lack {', '.join(missing)}: run it again")
        return cls(**{name: data[name] for name in names})

    @property
    def finished(self) -> bool:
        """Whether it learnt all of its tasks."""
        return self.status == "finished"

    @property
    def learnt(self) -> int:
        """Number of tasks learnt so far."""
        return len(self.accuracy)

    @property
    def average_accuracy(self) -> float | None:
        """ACC over the tasks learnt so far; None before the first."""
        return average_accuracy(self.accuracy) if self.accuracy else None

    @property
    def backward_transfer(self) -> float | None:
        """BWT over the tasks learnt so far; None before the first."""
        return backward_transfer(self.accuracy) if self.accuracy else None

    @property
    def forgetting(self) -> float | None:
        """Forgetting over the tasks learnt so far; None before the first."""
        return forgetting(self.accuracy) if self.accuracy else None


def read_results(folder: Path) -> dict[str, Any]:
    """The metrics of a run directory.

    Raises:
        RunError: If they are not what a run writes.
    """
    path = folder / "metrics.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({error}): run the experiment again") from error
    if not isinstance(results, dict):
        raise RunError(f"{path} does not hold the metrics of a run: run the experiment again")
    return results
