"""The trace of a task-free run: its losses and shifts, step by step, in `stream.jsonl`.

The first line describes the stream: name, steps, tasks and true shifts (for scoring only). Each
further line is a step: its loss, and, where they changed, the context and the widths, and what
the learner did about a shift.
"""

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from growmas.closeable import Closeable
from growmas.errors import GrowmasWarning, RunError
from growmas.paths import as_path
from growmas.runs.result import METRICS, read_result

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
        missing: Says which steps are missing from the file; "" if none is.
    """

    stream: str
    steps: int
    true_shifts: tuple[tuple[int, int, int], ...]
    losses: tuple[float, ...]
    events: tuple[StreamEvent, ...] = ()
    widths: tuple[tuple[int, Mapping[str, int]], ...] = ()
    contexts: tuple[str, ...] = field(default=())
    missing: str = ""


class TraceWriter(Closeable):
    """Writes the trace of a run; use it as a context manager.

    Args:
        folder: Of the run.
        header: The first line: `stream`, `steps`, `tasks` and `true_shifts`.
        start: First step that will be written; earlier steps of an existing file are kept.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], *, start: int = 0) -> None:
        self._path = folder / TRACE
        self._last: dict[str, Any] = {}
        if start:
            self._keep(start)
            self._file = self._path.open("a", encoding="utf-8")
        else:
            self._file = self._path.open("w", encoding="utf-8")
            self._file.write(f"{json.dumps(header)}\n")

    def _keep(self, steps: int) -> None:
        """Cut off everything after the first steps; what comes before is never touched.

        Raises:
            RunError: The file holds fewer steps.
        """
        kept, size = 0, 0
        with self._path.open("rb") as file:
            for line in file:
                if kept > steps or not line.endswith(b"\n"):
                    break
                if kept:
                    values = json.loads(line)
                    self._last |= {n: values[n] for n in ("context", "widths") if n in values}
                kept, size = kept + 1, size + len(line)
        if kept <= steps:
            raise RunError(
                f"{self._path} holds {max(kept - 1, 0)} steps and the checkpoint is of step "
                f"{steps}: lines are missing; start anew with --overwrite"
            )
        os.truncate(self._path, size)

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

    def sync(self) -> None:
        """Wait until every line is on the disk, before a checkpoint that relies on it."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_trace(folder: str | PathLike[str]) -> StreamTrace:
    """Read what a run has written so far; an incomplete last line is left out.

    Raises:
        RunError: The run is not over a task-free stream, or the file is damaged.
    """
    folder = as_path(folder, RunError, "a run directory")
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
        trace = _trace(head, lines)
        steps = [int(line["step"]) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): run the experiment again") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    missing = _missing(folder, trace, steps)
    if missing:
        warnings.warn(f"{path}: {missing}", GrowmasWarning, stacklevel=2)
    return replace(trace, missing=missing)


def _missing(folder: Path, trace: StreamTrace, steps: Sequence[int]) -> str:
    """Return what is missing: a gap, or the end of a run that is finished."""
    gap = next((i for i, step in enumerate(steps) if step > i), None)
    if gap is not None and steps[0] == 0:
        return f"the line of step {gap} is missing"
    if len(steps) < trace.steps and (folder / METRICS).is_file():
        with suppress(RunError):
            if read_result(folder).finished:
                return f"the run is finished, but only {len(steps)} of {trace.steps} steps are here"
    return ""


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
