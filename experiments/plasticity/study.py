"""Plasticity over long streams: plain training, a fresh network a task, replaced units, and peers.

python experiments/plasticity/study.py                    # every arm; some CPU hours; resumable
python experiments/plasticity/study.py --arm permutations-adam --method ours --seed 0
python experiments/plasticity/study.py --tuning           # every method tuned alike
python experiments/plasticity/study.py --memory           # forgetting and plasticity together
python experiments/plasticity/study.py --cost             # CPU time per step
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from learning import METHODS, learn
from memory import STRENGTHS, VARIANTS, remember
from step_cost import step_costs

HERE = Path(__file__).parent
FEW = ("plain", "fresh", "ours", "l2_init")
PEERS = (*FEW, "cbp naive", "redo", "shrink_perturb", "upgd")


@dataclass(frozen=True)
class Arm:
    """A stream, a network and an optimizer, with the methods that learn it.

    Attributes:
        protocol: Name of the stream.
        model: Name of the network.
        optimizer: "adam" or "sgd".
        methods: Names of the methods.
        seeds: Their seeds.
    """

    protocol: str
    model: str
    optimizer: str
    methods: tuple[str, ...] = FEW
    seeds: tuple[int, ...] = (1, 2, 3)


ARMS = {
    "permutations-adam": Arm("permutations", "mlp", "adam", PEERS, (1, 2, 3, 4, 5)),
    "labellings-adam": Arm("labellings", "mlp", "adam", FEW),
    "long-labellings-adam": Arm("long labellings", "mlp", "adam", FEW),
    "permutations-sgd": Arm("permutations", "mlp", "sgd", PEERS, (1, 2, 3, 4, 5)),
    "conv-adam": Arm("short labellings", "conv", "adam"),
    "conv-sgd": Arm("short labellings", "conv", "sgd"),
    "transformer-adam": Arm("short labellings", "transformer", "adam"),
    "transformer-sgd": Arm("short labellings", "transformer", "sgd"),
    "single-adam": Arm("one by one", "wide", "adam"),
    "classes-adam": Arm("classes", "mlp", "adam"),
    "classes-sgd": Arm("classes", "mlp", "sgd"),
    "regression-adam": Arm("regression", "small", "adam"),
    "regression-sgd": Arm("regression", "small", "sgd"),
    "gradual-adam": Arm("gradual", "mlp", "adam"),
    "gradual-sgd": Arm("gradual", "mlp", "sgd"),
    "short-labellings-adam": Arm("short labellings", "mlp", "adam"),
    "short-labellings-sgd": Arm("short labellings", "mlp", "sgd"),
}

TUNED_ARMS = ("short-labellings-adam", "permutations-adam")
"""Streams on which every method is tuned."""

GRIDS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "ours": ({}, {"threshold": 0.1}, {"threshold": 0.3}, {"maturity": 300}),
    "cbp": ({"rate": 1e-4}, {"rate": 3e-4}, {"rate": 1e-3}, {"rate": 3e-3}),
    "cbp naive": ({"rate": 1e-4}, {"rate": 3e-4}, {"rate": 1e-3}, {"rate": 3e-3}),
    "ccbp": ({"rate": 1e-4}, {"rate": 1e-3}, {"rate": 3e-3}, {"rate": 1e-2}),
    "redo": (
        {"threshold": 0.1, "every": 1000},
        {"threshold": 0.1, "every": 100},
        {"threshold": 0.025, "every": 100},
        {"threshold": 0.2, "every": 100},
    ),
    "l2_init": ({"strength": 1e-4}, {"strength": 3e-4}, {"strength": 1e-3}, {"strength": 1e-2}),
    "shrink_perturb": (
        {"shrink": 1e-4, "noise": 1e-3},
        {"shrink": 1e-4, "noise": 1e-2},
        {"shrink": 3e-4, "noise": 1e-3},
        {"shrink": 1e-3, "noise": 1e-2},
    ),
    "upgd": ({"noise": 1e-4}, {"noise": 1e-3}, {"noise": 1e-2}, {"noise": 1e-1}),
}
"""Method -> the settings to choose from on seed 0, as many for each."""

STRENGTH = {"adam": 1e-3, "sgd": 1e-3}
"""Of L2-init, by optimizer; see README.md for how it was chosen."""


def main() -> None:
    """Run what the arguments say and has no result yet, and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=[*ARMS], action="append")
    parser.add_argument("--method", choices=[*METHODS], action="append")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the method, as JSON")
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--strength", type=float, choices=STRENGTHS, action="append")
    parser.add_argument("--width", type=int, default=100, help="of the network of --memory")
    parser.add_argument("--variant", choices=[*VARIANTS], action="append")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if given.cost:
        for name, found in step_costs().items():
            print(name, found)
        return
    if given.memory:
        for seed in given.seed or [0, 1, 2]:
            for strength in given.strength or STRENGTHS:
                for variant in given.variant or VARIANTS:
                    memory_row(strength, variant, seed, given.width, given.results)
        return
    if given.tuning:
        for arm_name in given.arm or TUNED_ARMS:
            for method in given.method or GRIDS:
                tune(arm_name, method, given.seed or [1, 2, 3], given.results)
        return
    for arm_name in given.arm or ARMS:
        arm = ARMS[arm_name]
        for seed in given.seed or arm.seeds:
            for method in given.method or arm.methods:
                row(arm_name, method, seed, given.settings, given.results)


def tune(arm_name: str, method: str, seeds: Iterable[int], results: Path) -> None:
    """Run all settings of a method on seed 0, and the best of them on other seeds."""
    tried = [row(arm_name, method, 0, settings, results) for settings in GRIDS[method]]
    lower_is_better = ARMS[arm_name].protocol == "regression"
    best = (min if lower_is_better else max)(tried, key=lambda found: found["mean"])
    for seed in seeds:
        row(arm_name, method, seed, best["settings"], results)


def row(
    arm_name: str, method: str, seed: int, settings: dict[str, Any], results: Path
) -> dict[str, Any]:
    """Return the result of one method on one stream; it is run, and noted in the file, once."""
    arm = ARMS[arm_name]
    if method == "l2_init":
        settings = {"strength": STRENGTH[arm.optimizer], **settings}
    key = {"arm": arm_name, "method": method, "seed": seed, "settings": settings}
    known = noted(results, key)
    if known is not None:
        return known
    start = time.process_time()
    found = learn(
        arm.protocol, method, seed, arm.optimizer, model=arm.model, settings=settings
    )  # fmt: skip
    quarter = len(found["scores"]) // 4
    return write(
        results,
        **key,
        first=round(statistics.mean(found["scores"][:quarter]), 4),
        last=round(statistics.mean(found["scores"][-quarter:]), 4),
        mean=round(statistics.mean(found["scores"]), 4),
        replaced=found["replaced"],
        cpu_seconds=round(time.process_time() - start, 1),
    )


def memory_row(strength: float, variant: str, seed: int, width: int, results: Path) -> None:
    """Run a strength of MAS with a setting of the replacement."""
    key = {"arm": "memory", "strength": strength, "variant": variant, "seed": seed, "width": width}
    if noted(results, key) is None:
        found = remember(strength, seed, settings=VARIANTS[variant], width=width)
        write(results, **key, **found)


def noted(results: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of a run in the file; None if it has none."""
    for held in read(results):
        if all(held.get(name) == value for name, value in key.items()):
            return held
    return None


def read(results: Path) -> Iterable[dict[str, Any]]:
    """Return the results so far."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return [json.loads(line) for line in lines]


def write(results: Path, **values: Any) -> dict[str, Any]:
    """Print a result, append it to the file, and return it."""
    text = json.dumps(values)
    print(text, flush=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    return values


if __name__ == "__main__":
    main()
