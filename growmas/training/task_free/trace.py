"""The losses and shifts of a run as they come: `stream.jsonl`, a line per step.

The first line says what the stream is: name, steps, tasks and true shifts (for scoring only). A
line of a step holds its loss, and where they changed the context, the widths and what happened.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from growmas.closeable import Closeable
from growmas.data.task_free import TaskFreeStream
from growmas.training.task_free.records import StepDone

NAME = "stream.jsonl"
FLUSH = 20


class Trace(Closeable):
    """Writes the file; use it as a context manager.

    Args:
        folder: Of the run.
        stream: What is learnt.
        start: First step that will be written; of a file that is there, earlier ones stay.
    """

    def __init__(self, folder: Path, stream: TaskFreeStream, *, start: int = 0) -> None:
        path = folder / NAME
        kept = path.read_text(encoding="utf-8").splitlines()[: start + 1] if start else []
        self._last: dict[str, Any] = {}
        for line in kept[1:]:
            self._last |= {k: v for k, v in json.loads(line).items() if k in ("context", "widths")}
        self._file = path.open("w", encoding="utf-8")
        lines = kept or [json.dumps(_header(stream))]
        self._file.writelines(f"{line}\n" for line in lines)

    def write(self, done: StepDone, widths: Mapping[str, int]) -> None:
        """Add a step."""
        line: dict[str, Any] = {"step": done.step, "loss": done.loss}
        for name, value in (("context", done.context), ("widths", dict(widths))):
            if value != self._last.get(name):
                line[name] = self._last[name] = value
        if done.shift is not None:
            line["shift"] = {
                "deed": done.shift.deed,
                "reason": done.shift.reason,
                **asdict(done.shift.event),
            }
        self._file.write(json.dumps(line) + "\n")
        if done.shift is not None or done.step % FLUSH == 0:
            self._file.flush()

    def flush(self) -> None:
        """Have everything on disk, for a reader or a checkpoint."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _header(stream: TaskFreeStream) -> dict[str, Any]:
    shifts: Sequence[Any] = [] if stream.steps is None else stream.shifts()
    return {
        "stream": stream.name,
        "steps": stream.steps,
        "tasks": [task.name for task in stream.tasks],
        "true_shifts": [[shift.first, shift.last, shift.task] for shift in shifts],
    }
