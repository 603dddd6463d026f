"""Summaries of sweeps: the settings side by side, each over all of its seeds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from growmas.errors import RunError
from growmas.runs import RunResult, read_result
from growmas.runs.finding import SWEEP
from growmas.runs.result import METRICS

SEED = "seed"


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep, finished or not.

    Attributes:
        name: Of its directory.
        setting: Key -> value, as given on the command line.
        message: Why it failed; empty if it did not.
        result: What the run reports; None before it has begun.
        code: Module -> hash of the code that it was run with; empty if it is not known.
    """

    name: str
    setting: Mapping[str, str]
    message: str = ""
    result: RunResult | None = None
    code: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """One of "finished", "failed", "unfinished", or "waiting" before it has begun."""
        if self.message:
            return "failed"
        return self.result.status if self.result else "waiting"


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
        mean: Of the runs.
        deviation: Sample standard deviation (n−1); None of a single run.
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """Return mean and deviation; None for no values."""
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Setting:
    """All runs that differ only in the seed.

    Attributes:
        values: Key -> value, without the seed.
        runs: How many there are to be.
        finished: How many are finished; the numbers are over these.
        seeds: Their seeds.
        average_accuracy: ACC.
        forgetting: Mean drop from the best.
        parameters: At the end.
        cpu_seconds: Of learning.
    """

    values: Mapping[str, str]
    runs: int
    finished: int
    seeds: tuple[int, ...]
    average_accuracy: Spread | None
    forgetting: Spread | None
    parameters: Spread | None
    cpu_seconds: Spread | None


@dataclass(frozen=True)
class SweepSummary:
    """A sweep.

    Attributes:
        runs: In the order in which they begin.
        settings: In the order in which they came.
        varied: The keys, seed left out, in which settings differ.
    """

    runs: tuple[SweepRun, ...]
    settings: tuple[Setting, ...]
    varied: tuple[str, ...]


def read_runs(folder: Path) -> tuple[SweepRun, ...]:
    """Read the runs of a sweep as they are now, finished or not.

    Raises:
        RunError: It is not a sweep, or its summary is damaged.
    """
    path = folder / SWEEP
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["runs"]
        runs = [
            SweepRun(
                str(run["name"]), dict(run["setting"]), str(run["message"]),
                code=dict(run.get("code", {})),
            )
            for run in listed
        ]  # fmt: skip
    except FileNotFoundError as error:
        raise RunError(f"{folder} is not a sweep: it has no {SWEEP}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is damaged: repeat the command that made it") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    return tuple(_readable(folder, run) for run in runs)


def _readable(folder: Path, run: SweepRun) -> SweepRun:
    """Read a run; one that cannot be read is a failed one, with the reason."""
    try:
        return with_result(folder, run)
    except RunError as error:
        return replace(run, message=str(error))


def with_result(folder: Path, run: SweepRun) -> SweepRun:
    """Return a run of a sweep with its result as it is now.

    Raises:
        RunError: Its metrics are damaged.
    """
    if not (folder / run.name / METRICS).is_file():
        return run
    return replace(run, result=read_result(folder / run.name))


def summarise(runs: Iterable[SweepRun]) -> SweepSummary:
    """Group runs by setting, with means over seeds."""
    runs = tuple(runs)
    alike: dict[tuple[tuple[str, str], ...], list[SweepRun]] = {}
    for run in runs:
        values = tuple((key, value) for key, value in run.setting.items() if key != SEED)
        alike.setdefault(values, []).append(run)
    settings = tuple(_setting(dict(values), group) for values, group in alike.items())
    keys = list(dict.fromkeys(key for each in settings for key in each.values))
    varied = tuple(key for key in keys if len({each.values.get(key) for each in settings}) > 1)
    return SweepSummary(runs, settings, varied)


def _setting(values: dict[str, str], runs: Sequence[SweepRun]) -> Setting:
    results = [run.result for run in runs if run.result and run.status == "finished"]
    return Setting(
        values=values,
        runs=len(runs),
        finished=len(results),
        seeds=tuple(result.seed for result in results),
        average_accuracy=Spread.of([result.average_accuracy or 0.0 for result in results]),
        forgetting=Spread.of([result.forgetting or 0.0 for result in results]),
        parameters=Spread.of([result.parameters for result in results]),
        cpu_seconds=Spread.of([result.cpu_seconds for result in results]),
    )


def as_data(summary: SweepSummary) -> dict[str, Any]:
    """Return the settings, and the runs they were made of, as a JSON-ready dict."""
    return {
        "settings": [asdict(setting) for setting in summary.settings],
        "runs": [
            {
                "name": run.name,
                "setting": dict(run.setting),
                "status": run.status,
                "message": run.message,
                "code": dict(run.code),
                "seed": run.result.seed if run.result else None,
                "average_accuracy": run.result.average_accuracy if run.result else None,
                "forgetting": run.result.forgetting if run.result else None,
                "parameters": run.result.parameters if run.result else None,
                "cpu_seconds": run.result.cpu_seconds if run.result else None,
            }
            for run in summary.runs
        ],
    }
