"""The losses and shifts of a task-free run, read from its `stream.jsonl` without torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from growmas.errors import RunError

FILE = "stream.jsonl"


@dataclass(frozen=True)
class Happening:
    """A line of the file in which something happened.

    Attributes:
        step: Of the stream.
        kind: "plateau" or "peak".
        onset: Step at which it began.
        deed: What the learner made of it.
        context: Name of the context from then on; "" where there are none.
        reason: In words.
    """

    step: int
    kind: str
    onset: int
    deed: str
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
        happenings: Plateaus and peaks, in order.
        widths: (step, group name -> width), where they changed.
        contexts: Names, in order of appearance.
    """

    stream: str
    steps: int
    true_shifts: tuple[tuple[int, int, int], ...]
    losses: tuple[float, ...]
    happenings: tuple[Happening, ...] = ()
    widths: tuple[tuple[int, Mapping[str, int]], ...] = ()
    contexts: tuple[str, ...] = field(default=())


def read_trace(folder: Path) -> StreamTrace:
    """Read what a run has written so far; a last line that is not whole yet is left out.

    Raises:
        RunError: It is not a run over a task-free stream, or the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise RunError(
            f"{folder} has no {FILE}: only runs over a stream of kind task_free have shifts to show"
        )
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1].splitlines()
    try:
        head, *lines = (json.loads(line) for line in whole)
        return _trace(head, lines)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}): run the experiment again") from error


def _trace(head: Mapping[str, Any], lines: list[dict[str, Any]]) -> StreamTrace:
    happenings, widths, contexts = [], [], []
    context = ""
    for line in lines:
        context = line.get("context", context)
        if context and context not in contexts:
            contexts.append(context)
        if "widths" in line:
            widths.append((int(line["step"]), dict(line["widths"])))
        if "shift" in line:
            shift = line["shift"]
            happenings.append(
                Happening(
                    int(line["step"]),
                    shift["kind"],
                    int(shift["onset"]),
                    shift["deed"],
                    context,
                    shift["reason"],
                )
            )
    losses = tuple(float(line["loss"]) for line in lines)
    if not all(map(math.isfinite, losses)):
        raise ValueError("a loss is not finite")
    return StreamTrace(
        head["stream"],
        int(head["steps"]),
        tuple((int(first), int(last), int(task)) for first, last, task in head["true_shifts"]),
        losses,
        tuple(happenings),
        tuple(widths),
        tuple(contexts),
    )
