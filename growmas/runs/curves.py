"""Curves of a task-aware run: loss, penalty and learning rate of every epoch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from growmas.errors import RunError

CURVES = "curves.jsonl"


@dataclass(frozen=True)
class EpochScalars:
    """Numbers of one pass over a task's training data.

    Attributes:
        task: Index of the task.
        name: Of the task.
        epoch: Number of the pass, from 1.
        loss: Mean task loss per sample, penalty left out.
        penalty: Mean penalty per step.
        learning_rate: At the end of the epoch.
        validation: Accuracy on the task's validation samples; None where there are none.
    """

    task: int
    name: str
    epoch: int
    loss: float
    penalty: float
    learning_rate: float
    validation: float | None = None


def append_curve(folder: Path, scalars: EpochScalars) -> None:
    """Add an epoch to the curves of a run; a line that a kill left incomplete is replaced.

    Raises:
        RunError: The file cannot be written.
    """
    line = json.dumps(asdict(scalars)).encode() + b"\n"
    try:
        with (folder / CURVES).open("a+b") as file:
            file.seek(0)
            file.truncate(_complete(file.read()))
            file.write(line)
    except OSError as error:
        raise RunError(f"{folder / CURVES} could not be written: {error.strerror}") from error


def read_curves(folder: Path) -> tuple[EpochScalars, ...]:
    """Read the curves of a run; of an epoch that was repeated after a stop, the last numbers.

    Raises:
        RunError: There are none, or the file is damaged.
    """
    path = folder / CURVES
    if not path.is_file():
        raise RunError(
            f"{folder} has no {CURVES}: runs of earlier versions have none, and those of kind "
            "task_free have growmas shifts"
        )
    found: dict[tuple[int, int], EpochScalars] = {}
    content = path.read_bytes()
    lines = content[: _complete(content)].splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            scalars = EpochScalars(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise RunError(f"{path}:{number} is damaged: run the experiment again") from error
        found[scalars.task, scalars.epoch] = scalars
    return tuple(found[key] for key in sorted(found))


def _complete(content: bytes) -> int:
    """Return the length of the complete lines of a file."""
    return content.rfind(b"\n") + 1
