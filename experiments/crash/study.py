"""Kill runs at random moments and before every file operation, and compare with runs left alone.

python experiments/crash/study.py [--every 1] [--random 60] [--case NAME]
"""

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from kills import Case, Killed, attempt, kill_at_every_operation, kill_at_random
from runs import run_case, sweep_case, warm

from growmas.config import load_config

HERE = Path(__file__).parent
CASES = {
    "task-aware, growing": (
        "digits_smoke",
        ["stream.tasks=2", "stream.limit=20", "training.epochs=1", "checkpoint.every=4"],
    ),
    "task-free, growing": (
        "task_free_smoke",
        ["stream.tasks=2", "stream.of=permuted", "stream.scenario=domain",
         "training.learning_rate=0.01", "checkpoint.every=20"],
    ),
    "task-free, fixed size": (
        "task_free_smoke",
        ["stream.tasks=2", "stream.of=permuted", "stream.scenario=domain",
         "stream.steps_per_task=15", "model.hidden=[8]", "checkpoint.every=5",
         "method={kind: mas, task_free: {buffer: 5, steps: 2}}"],
    ),
}  # fmt: skip
SWEEP = (
    "digits_smoke",
    ["seed=0..1", "stream.tasks=2", "stream.limit=10", "training.epochs=1", "checkpoint.every=2"],
)


def cases() -> dict[str, Case]:
    """Return the cases by name."""
    runs = {name: run_case(load_config(*given)) for name, given in CASES.items()}
    return {**runs, "sweep of two runs": sweep_case(*SWEEP)}


class Progress:
    """Killed runs that are done, as lines of a file, so that the study itself can be continued.

    Args:
        file: To read and to add to.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self._rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def of(self, case: str) -> list[Killed]:
        """Return the killed runs of a case."""
        return [Killed(**row["killed"]) for row in self._rows if row["case"] == case]

    def add(self, case: str, killed: Killed) -> None:
        """Note a killed run."""
        row = {"case": case, "killed": asdict(killed)}
        self._rows.append(row)
        with self._file.open("a") as file:
            file.write(f"{json.dumps(row)}\n")


def kill(name: str, case: Case, root: Path, given: argparse.Namespace, progress: Progress) -> None:
    """Kill the runs of a case that are not done yet."""
    begun = time.monotonic()
    assert attempt(case.work(root / "whole")) == 0
    seconds = time.monotonic() - begun
    whole = case.outcome(root / "whole")
    known = {run.name: run.kills for run in progress.of(name)}
    times = given.random - sum(kills for run, kills in known.items() if run.startswith("random"))
    moments = kill_at_random(case, root, whole, times=times, seconds=seconds, known=known)
    operations = kill_at_every_operation(case, root, whole, every=given.every, known=known)
    for killed in itertools.chain(moments, operations):
        progress.add(name, killed)


def row_of(case: str, runs: list[Killed]) -> dict[str, object]:
    """Return the line of results of a case."""
    return {
        "case": case,
        "operations": sum(run.kills for run in runs if run.name.startswith("operation")),
        "random": sum(run.kills for run in runs if run.name.startswith("random")),
        "wrong": [text for run in runs for text in run.wrong],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only each so many operations")
    parser.add_argument("--random", type=int, default=60, help="kills at random moments, a case")
    parser.add_argument("--case", help="only cases whose name contains this")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl", help="is written anew")
    parser.add_argument("--progress", type=Path, help="killed runs so far: is continued")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warm()
    progress = Progress(given.progress or given.out.with_suffix(".progress"))
    chosen = {name: case for name, case in cases().items() if (given.case or "") in name}
    for name, case in chosen.items():
        with tempfile.TemporaryDirectory() as place:
            kill(name, case, Path(place), given, progress)
        print(json.dumps(row_of(name, progress.of(name))), flush=True)
    rows = [row_of(name, progress.of(name)) for name in cases()]
    given.out.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
