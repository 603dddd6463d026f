"""Kill runs at random moments and before every file operation, and compare with runs left alone.

python experiments/crash/study.py [--every 1] [--random 100]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from kills import attempt, kill_at_every_operation, kill_at_random, outcome, run

from growmas.config import load_config
from growmas.data import load_source

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only each so many operations")
    parser.add_argument("--random", type=int, default=60, help="kills at random moments, a case")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, (config, overrides) in CASES.items():
        experiment = load_config(config, overrides)
        load_source("digits")  # once, before the forks
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            begun = time.monotonic()
            assert attempt(run(experiment, root / "whole")) == 0
            seconds = time.monotonic() - begun
            whole = outcome(root / "whole")
            operations, wrong = kill_at_every_operation(experiment, root, whole, every=given.every)
            moments, more = kill_at_random(
                experiment, root, whole, times=given.random, seconds=seconds
            )
        rows.append(
            {"case": name, "operations": operations, "random": moments, "wrong": wrong + more}
        )
        print(json.dumps(rows[-1]))
    (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
