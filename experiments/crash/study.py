"""Kill runs at random moments and before every file operation, and compare with runs left alone.

python experiments/crash/study.py [--every 1] [--random 60] [--case NAME]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from kills import Case, attempt, kill_at_every_operation, kill_at_random
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only each so many operations")
    parser.add_argument("--random", type=int, default=60, help="kills at random moments, a case")
    parser.add_argument("--case", help="only cases whose name contains this")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl", help="lines are added")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warm()
    for name, case in cases().items():
        if given.case and given.case not in name:
            continue
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            begun = time.monotonic()
            assert attempt(case.work(root / "whole")) == 0
            seconds = time.monotonic() - begun
            whole = case.outcome(root / "whole")
            moments, wrong = kill_at_random(case, root, whole, times=given.random, seconds=seconds)
            operations, more = kill_at_every_operation(case, root, whole, every=given.every)
        row = {"case": name, "operations": operations, "random": moments, "wrong": wrong + more}
        print(json.dumps(row), flush=True)
        with given.out.open("a") as file:
            file.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
