"""The study of finetune, fixed MAS and growmas: tuned on seed 0, reported on seeds 1 to 5.

    python experiments/first_light/study.py [--stream permuted|split] [--workers 2]

Every method gets the same learning rates, and those with a penalty the same number of strengths.
The setting with the best ACC on seed 0 is run on the other seeds.
"""

import argparse
import itertools
import json
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from growmas.config import load_config
from growmas.experiment import run_experiment
from growmas.metrics import average_accuracy, backward_transfer, forgetting

CONFIGS = Path(__file__).parents[2] / "configs"
METHODS = ("finetune", "mas", "growmas")
RATES = (0.001, 0.003, 0.006)
STRENGTHS = {"permuted": (0.001, 0.005, 0.02, 0.1), "split": (0.01, 0.1, 1.0, 10.0)}
SEEDS = (1, 2, 3, 4, 5)


def measure(job):
    stream, method, overrides = job
    experiment = load_config(CONFIGS / f"mnist5k_{stream}_{method}.yaml", overrides)
    with tempfile.TemporaryDirectory() as folder:
        results = run_experiment(experiment, Path(folder) / "run")
    matrix = results.accuracy
    return {
        "ACC": average_accuracy(matrix),
        "BWT": backward_transfer(matrix),
        "forgetting": forgetting(matrix),
        "parameters": results.parameters,
        "seconds": results.seconds,
    }


def grid(stream, method):
    strengths = STRENGTHS[stream] if method != "finetune" else (None,)
    for rate, strength in itertools.product(RATES, strengths):
        extra = [] if strength is None else [f"method.strength={strength}"]
        yield [f"training.learning_rate={rate}", *extra]


def spread(rows, key):
    values = [row[key] for row in rows]
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def study(stream, pool):
    jobs = [(stream, m, [*o, "seed=0"]) for m in METHODS for o in grid(stream, m)]
    tuned = list(zip(jobs, pool.map(measure, jobs), strict=True))
    for (_, method, overrides), row in tuned:
        print(f"seed 0  {method:8} {' '.join(overrides[:-1]):50} ACC {row['ACC']:.4f}", flush=True)
    best = {
        method: max((pair for pair in tuned if pair[0][1] == method), key=lambda p: p[1]["ACC"])
        for method in METHODS
    }
    found = {}
    for method, ((_, _, overrides), _) in best.items():
        jobs = [(stream, method, [*overrides[:-1], f"seed={seed}"]) for seed in SEEDS]
        rows = list(pool.map(measure, jobs))
        found[method] = {"chosen": overrides[:-1], "seeds": rows}
        print(
            f"| {stream} | {method} | {' '.join(overrides[:-1])} | {spread(rows, 'ACC')} "
            f"| {spread(rows, 'BWT')} | {spread(rows, 'forgetting')} "
            f"| {statistics.mean(row['parameters'] for row in rows):,.0f} "
            f"| {statistics.median(row['seconds'] for row in rows):.1f} |",
            flush=True,
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", choices=tuple(STRENGTHS), action="append")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = {stream: study(stream, pool) for stream in options.stream or STRENGTHS}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
