"""The trace of a task-free run: its losses and shifts, step by step, in `stream.jsonl`.

The first line describes the stream: name, steps, tasks and true shifts (for scoring only). Each
further line is a step: its loss, and, where they changed, the context and the widths, and what
the learner did about a shift.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from growmas.closeable import Closeable
from growmas.errors import RunError

TRACE = "stream.jsonl"
FLUSH = 20
"""Steps from one write to the disk to the next."""


@dataclass(frozen=True)
class StreamEvent:
    """A plateau or a peak of the loss, and what the learner did about it.

    Attributes:
        step: Of the stream.
        kind: "plateau" or "peak".
        onset: Step at which it began.
        action: What the learner did about it.
        context: Name of the context from then on; "" where there are none.
        reason: In words.
    """

    step: int
    kind: str
    onset: int
    action: str
    context: str
    reason: str


@dataclass(frozen=True)
class StreamTrace:
    """A task-free run so far.

    Attributes:
        stream: Source and kind.
        steps: Of the whole stream.
        true_shifts: (first, last, index of the new task) of each.
        losses: One a step.
        events: Plateaus and peaks, in order.
        widths: (step, group name -> width), where they changed.
        contexts: Names, in order of appearance.
    """

    stream: str
    steps: int
    true_shifts: tuple[tuple[int, int, int], ...]
    losses: tuple[float, ...]
    events: tuple[StreamEvent, ...] = ()
    widths: tuple[tuple[int, Mapping[str, int]], ...] = ()
    contexts: tuple[str, ...] = field(default=())


class TraceWriter(Closeable):
    """Writes the trace of a run; use it as a context manager.

    Args:
        folder: Of the run.
        header: The first line: `stream`, `steps`, `tasks` and `true_shifts`.
        start: First step that will be written; earlier steps of an existing file are kept.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], *, start: int = 0) -> None:
        path = folder / TRACE
        kept = path.read_text(encoding="utf-8").splitlines()[: start + 1] if start else []
        self._last: dict[str, Any] = {}
        for line in kept[1:]:
            self._last |= {k: v for k, v in json.loads(line).items() if k in ("context", "widths")}
        self._file = path.open("w", encoding="utf-8")
        lines = kept or [json.dumps(header)]
        self._file.writelines(f"{line}\n" for line in lines)

    def write(
        self,
        step: int,
        loss: float,
        *,
        context: str,
        widths: Mapping[str, int],
        shift: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a step.

        Args:
            step: Its number, from 0.
            loss: Of the first gradient step.
            context: Name of the context; "" where there are none.
            widths: Of every group.
            shift: Values of a `StreamEvent`, and what else is known of the event.
        """
        line: dict[str, Any] = {"step": step, "loss": loss}
        for name, value in (("context", context), ("widths", dict(widths))):
            if value != self._last.get(name):
                line[name] = self._last[name] = value
        if shift is not None:
            line["shift"] = dict(shift)
        self._file.write(json.dumps(line) + "\n")
        if shift is not None or step % FLUSH == 0:
            self.flush()

    def flush(self) -> None:
        """Hand every line to the operating system, for a reader or a checkpoint."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_trace(folder: Path) -> StreamTrace:
    """Read what a run has written so far; an incomplete last line is left out.

    Raises:
        RunError: The run is not over a task-free stream, or the file is damaged.
    """
    path = folder / TRACE
    if not path.is_file():
        raise RunError(
            f"{folder} has no {TRACE}: only runs over a stream of kind task_free have shifts to "
            "show"
        )
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1].splitlines()
        head, *lines = (json.loads(line) for line in whole)
        return _trace(head, lines)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): run the experiment again") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error


def _trace(head: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> StreamTrace:
    events: list[StreamEvent] = []
    widths: list[tuple[int, Mapping[str, int]]] = []
    contexts: list[str] = []
    context = ""
    for line in lines:
        context = line.get("context", context)
        if context and context not in contexts:
            contexts.append(context)
        if "widths" in line:
            widths.append((int(line["step"]), dict(line["widths"])))
        if "shift" in line:
            events.append(_event(int(line["step"]), context, line["shift"]))
    losses = tuple(float(line["loss"]) for line in lines)
    if not all(map(math.isfinite, losses)):
        raise ValueError("a loss is not finite")
    return StreamTrace(
        head["stream"],
        int(head["steps"]),
        tuple((int(first), int(last), int(task)) for first, last, task in head["true_shifts"]),
        losses,
        tuple(events),
        tuple(widths),
        tuple(contexts),
    )


def _event(step: int, context: str, shift: Mapping[str, Any]) -> StreamEvent:
    action = shift["action"] if "action" in shift else shift["deed"]  # its name in older files
    return StreamEvent(step, shift["kind"], int(shift["onset"]), action, context, shift["reason"])
