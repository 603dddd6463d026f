"""The result of a run: the record that `metrics.json` holds, as written and as read."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from os import PathLike
from typing import Any

from growmas.errors import RunError
from growmas.metrics import average_accuracy, backward_transfer, forgetting
from growmas.paths import as_path

_REMEDY = "remove it and let --resume write it again, or run the experiment anew"

METRICS = "metrics.json"


@dataclass(frozen=True)
class RunResult:
    """Result of one run.

    Attributes:
        name: Of the experiment.
        method: The kind of method of the config.
        stream: Source and kind.
        scenario: task, domain or class.
        seed: Of all randomness.
        tasks: Names of all tasks of the stream, T of them.
        accuracy: R[i][j], accuracy on task j after learning task i; a row per task learnt so far.
        parameters: Number of parameters after the last task learnt; 0 for a method that trains no
            network.
        units: Width of every group after the last task learnt.
        seconds: Wall time of learning, importance and surgery; evaluation left out.
        status: "finished" or "unfinished".
        cpu_seconds: CPU time of the process during `seconds`, over all threads.
        context_size: Numbers that the method's context keeps, in addition to the parameters.
        memory_size: Numbers that the method keeps between tasks in addition to these: buffers of
            the network, Ω and anchors, copies, stored samples, and masks by their bits; 0 for runs
            of earlier versions.
        started: Seconds since the epoch.
        versions: Of growmas and torch.
        run_id: Id of the run; "" for runs of earlier versions.
        stream_digest: Hash of all samples, labels and their order; "" for runs of earlier versions.
        imports: Target -> SHA-256 of the file it was imported from.
        validation: Mean accuracy on held-out training samples of the tasks so far, after each
            task; empty without `stream.validation`.
        ahead: Accuracy on each period of time before it was learnt, from the second on: the
            prequential accuracy of an ordered stream in scenario domain; empty for others.
        flops: FLOPs of one sample after the last task learnt, a frozen part whose features are
            kept left out; 0 where they were not counted.
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
    cpu_seconds: float = 0.0
    context_size: int = 0
    memory_size: int = 0
    started: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""
    stream_digest: str = ""
    imports: Mapping[str, str] = field(default_factory=dict)
    validation: Sequence[float] = field(default_factory=list)
    ahead: Sequence[float] = field(default_factory=list)
    flops: int = 0

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "RunResult":
        """Make a record from the values of a `metrics.json`; unknown keys are ignored.

        Raises:
            RunError: Keys are missing, or have values of another type.
        """
        run = data.get("name", "a run")
        known = {each.name: each for each in fields(cls)}
        required = [
            name
            for name, each in known.items()
            if each.default is MISSING and each.default_factory is MISSING
        ]
        missing = [name for name in required if name not in data]
        if missing:
            raise RunError(f"the metrics of {run!r} lack {', '.join(missing)}: run it again")
        values = {name: data[name] for name in known if name in data}
        wrong = [name for name, value in values.items() if not _FITS[name](value)]
        if wrong:
            raise RunError(
                f"the metrics of {run!r} are damaged: {', '.join(wrong)} cannot be read; run it "
                "again"
            )
        return cls(**values)

    @property
    def finished(self) -> bool:
        """True if all tasks were learnt."""
        return self.status == "finished"

    @property
    def learnt(self) -> int:
        """Number of tasks learnt so far."""
        return len(self.accuracy)

    @property
    def numbers_kept(self) -> int:
        """Numbers kept after the last task learnt: of parameters, the context and the method."""
        return self.parameters + self.context_size + self.memory_size

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


def read_result(folder: str | PathLike[str]) -> RunResult:
    """Read the result of a run directory.

    Raises:
        RunError: The file is missing, or is not what a run writes.
    """
    folder = as_path(folder, RunError, "a run directory")
    path = folder / METRICS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not valid JSON ({error}): {_REMEDY}") from error
    except FileNotFoundError as error:
        raise RunError(f"{folder} has no {METRICS}: continue it with --resume") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} does not hold the metrics of a run: {_REMEDY}")
    return RunResult.read(values)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_matrix(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) > i and all(map(_is_number, row))
        for i, row in enumerate(value)
    )


def _mapping_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, dict) and all(map(_is_text, value)) and all(map(fits, value.values()))
    )


_FITS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("name", "method", "stream", "scenario", "status", "run_id"), _is_text),
    **dict.fromkeys(("seed", "parameters", "context_size", "memory_size", "flops"), _is_count),
    **dict.fromkeys(("seconds", "cpu_seconds"), _is_number),
    "started": lambda value: value is None or _is_number(value),
    "tasks": lambda value: isinstance(value, list | tuple) and all(map(_is_text, value)),
    "accuracy": _is_matrix,
    "units": _mapping_of(_is_count),
    "versions": _mapping_of(_is_text),
    "imports": _mapping_of(_is_text),
    "stream_digest": _is_text,
    **dict.fromkeys(
        ("validation", "ahead"),
        lambda value: isinstance(value, list | tuple) and all(map(_is_number, value)),
    ),
}
