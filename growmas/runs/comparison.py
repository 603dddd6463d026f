"""Runs side by side, and whether their numbers compare."""

from collections.abc import Iterable
from dataclasses import dataclass

from growmas.runs.result import RunResult


@dataclass(frozen=True)
class Comparison:
    """Runs, none of which is called the best: single seeds do not show that.

    Attributes:
        runs: In the order given.
        differences: "streams: a, b" and "scenarios: …" where the runs differ, so that their
            numbers do not compare.
    """

    runs: tuple[RunResult, ...]
    differences: tuple[str, ...]

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
                    "flops": run.flops,
                    "units": dict(run.units),
                    "seconds": run.seconds,
                }
                for run in self.runs
            ],
        }


def compare(results: Iterable[RunResult]) -> Comparison:
    """Return runs with the reasons why their numbers do not compare, if there are any."""
    runs = tuple(results)
    differences = tuple(
        f"{what}: {', '.join(sorted(values))}"
        for what, values in (
            ("streams", {run.stream for run in runs}),
            ("scenarios", {run.scenario for run in runs}),
        )
        if len(values) > 1
    )
    unknown = [run.name for run in runs if not run.stream]
    if unknown and len(runs) > 1:
        differences = (f"the stream of {', '.join(unknown)} is not known",)
    if not differences:
        differences = _other_samples(runs)
    return Comparison(runs=runs, differences=differences)


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
