"""Plasticity over long streams: plain training, a fresh network a task, and replaced units.

python experiments/plasticity/study.py                    # everything, three seeds
python experiments/plasticity/study.py --protocol permutations --method ours --seed 0
python experiments/plasticity/study.py --memory           # forgetting and plasticity together
python experiments/plasticity/study.py --cost             # CPU time per step
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from memory import STRENGTHS, VARIANTS, remember
from protocols import PROTOCOLS, learn
from step_cost import step_costs

METHODS = ("plain", "fresh", "cbp naive", "ours")
HERE = Path(__file__).parent


def main() -> None:
    """Run what the arguments say, and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", choices=[*PROTOCOLS], action="append")
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--optimizer", choices=["adam", "sgd"], action="append")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.cost:
        for name, found in step_costs().items():
            print(name, found)
        return
    for seed in given.seed or [0, 1, 2]:
        if given.memory:
            memory_rows(seed, given.results)
            continue
        for protocol in given.protocol or PROTOCOLS:
            for optimizer in given.optimizer or ["adam", "sgd"]:
                for method in given.method or METHODS:
                    row(protocol, method, seed, optimizer, given.results)


def row(protocol: str, method: str, seed: int, optimizer: str, results: Path) -> None:
    """Run one method on one stream, and append its result to the file."""
    start = time.process_time()
    found = learn(protocol, method, seed, optimizer)
    quarter = len(found["accuracy"]) // 4
    write(
        results,
        protocol=protocol,
        method=method,
        optimizer=optimizer,
        seed=seed,
        first=round(statistics.mean(found["accuracy"][:quarter]), 4),
        last=round(statistics.mean(found["accuracy"][-quarter:]), 4),
        mean=round(statistics.mean(found["accuracy"]), 4),
        replaced=int(found["replaced"][-1]),
        cpu_seconds=round(time.process_time() - start, 1),
    )


def memory_rows(seed: int, results: Path) -> None:
    """Run every strength of MAS with every setting of the replacement."""
    for strength in STRENGTHS:
        for name, settings in VARIANTS.items():
            found = remember(strength, seed, settings=settings)
            write(results, protocol="memory", strength=strength, variant=name, seed=seed, **found)


def write(results: Path, **values: object) -> None:
    """Print a result and append it to the file."""
    text = json.dumps(values)
    print(text, flush=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    main()
