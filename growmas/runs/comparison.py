"""Runs side by side: which of them did best."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from growmas.runs.result import RunResult


@dataclass(frozen=True)
class Comparison:
    """Runs and which of them did best.

    Attributes:
        runs: In the order given.
        differences: "streams: a, b" and "scenarios: …" where the runs differ, so that their
            numbers do not compare.
        best_accuracy: Positions in `runs` of the finished ones with the highest ACC. Runs that
            print alike share it; empty if fewer than two finished.
        least_forgetting: Positions in `runs` of the finished ones with the lowest forgetting.
    """

    runs: tuple[RunResult, ...]
    differences: tuple[str, ...]
    best_accuracy: frozenset[int]
    least_forgetting: frozenset[int]

    def as_data(self) -> dict[str, object]:
        """Return the comparison as a JSON-ready dict."""
        return {
            "comparable": not self.differences,
            "differences": list(self.differences),
            "runs": [
                {
                    "name": run.name,
                    "method": run.method,
                    "stream": run.stream,
                    "scenario": run.scenario,
                    "seed": run.seed,
                    "status": run.status,
                    "tasks_learnt": run.learnt,
                    "tasks": len(run.tasks),
                    "average_accuracy": run.average_accuracy,
                    "backward_transfer": run.backward_transfer,
                    "forgetting": run.forgetting,
                    "parameters": run.parameters,
                    "units": dict(run.units),
                    "seconds": run.seconds,
                    "best_accuracy": i in self.best_accuracy,
                    "least_forgetting": i in self.least_forgetting,
                }
                for i, run in enumerate(self.runs)
            ],
        }


def compare(results: Iterable[RunResult]) -> Comparison:
    """Compare runs by ACC and forgetting, where their streams and scenarios are the same."""
    runs = tuple(results)
    differences = tuple(
        f"{what}: {', '.join(sorted(values))}"
        for what, values in (
            ("streams", {run.stream for run in runs}),
            ("scenarios", {run.scenario for run in runs}),
        )
        if len(values) > 1
    )
    if not differences:
        differences = _other_samples(runs)
    compared = [i for i, run in enumerate(runs) if run.finished and run.accuracy]
    if differences or len(compared) < 2:
        compared = []
    accuracy = {i: _printed(runs[i].average_accuracy) for i in compared}
    lost = {i: _printed(runs[i].forgetting) for i in compared}
    return Comparison(
        runs=runs,
        differences=differences,
        best_accuracy=_positions(accuracy, max(accuracy.values(), default=0.0)),
        least_forgetting=_positions(lost, min(lost.values(), default=0.0)),
    )


def _other_samples(runs: tuple[RunResult, ...]) -> tuple[str, ...]:
    """Return that the samples of runs of the same seed differ; other seeds may draw others."""
    seeds: dict[int, dict[str, str]] = {}
    for run in runs:
        if run.stream_digest:
            seeds.setdefault(run.seed, {}).setdefault(run.stream_digest, run.name)
    for seed, digests in seeds.items():
        if len(digests) > 1:
            listed = ", ".join(f"{name} ({digest})" for digest, name in digests.items())
            return (f"samples of seed {seed}: {listed}",)
    return ()


def _printed(share: float | None) -> float:
    """Round a share as the table does, so that runs which print alike are alike."""
    return round(100 * (share or 0.0), 1)


def _positions(values: Mapping[int, float], wanted: float) -> frozenset[int]:
    return frozenset(i for i, value in values.items() if value == wanted)
