"""Old weights under a penalty, or frozen by birth; gains and biases shared, or of each task.

python experiments/birth_protection/study.py      # two CPU minutes; appends to results.jsonl
"""

import argparse
import json
import tempfile
from pathlib import Path

from growmas.config import load_config
from growmas.experiment import run_experiment

HERE = Path(__file__).parent
CONFIG = HERE.parents[1] / "configs" / "mnist5k_permuted_growmas.yaml"
SHORT = ("stream.tasks=5", "training.epochs=4", "method.prune=null")
SIZES = {"small": ("model.hidden=[16, 16]", "method.grow.units=4"), "as configured": ()}
METHODS = {
    "penalty": (),
    "penalty, own gains and biases": ("method.per_task=[gains, biases]",),
    "chosen on the second task": ("method.protect=auto",),
    "frozen by birth": ("method.protect=old",),
    "frozen by birth, own biases": ("method.protect=old", "method.per_task=[biases]"),
    "frozen by birth, own gains and biases": (
        "method.protect=old",
        "method.per_task=[gains, biases]",
    ),
}


def main() -> None:
    """Run every method at every size, and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    given = parser.parse_args()
    for seed in given.seed or [0, 1, 2]:
        for size, widths in SIZES.items():
            for name, changes in METHODS.items():
                config = load_config(CONFIG, [*SHORT, *widths, *changes, f"seed={seed}"])
                with tempfile.TemporaryDirectory() as folder:
                    result = run_experiment(config, Path(folder) / "run")
                line = {
                    "size": size,
                    "method": name,
                    "seed": seed,
                    "accuracy": round(result.average_accuracy, 4),
                    "forgetting": round(result.forgetting, 4),
                    "numbers": result.numbers_kept,
                    "cpu_seconds": round(result.cpu_seconds, 1),
                }
                print(json.dumps(line), flush=True)
                with given.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
