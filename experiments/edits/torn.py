"""Plans that are torn at a random torch operation: everything must be as before.

python experiments/edits/torn.py [--plans 3000]
"""

import argparse
import collections
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from edit_scenes import NETWORKS, OPTIMIZERS, Scene, everything, random_plan, scene
from torch.utils._python_dispatch import TorchDispatchMode

from growmas.errors import GrowmasError

HERE = Path(__file__).parent


class Torn(Exception):
    """The exception that is injected."""


class Tearing(TorchDispatchMode):
    """Raises once, at an operation of torch.

    Args:
        number: Of the operation, from 1; 0 only counts.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.count == self.number:
            raise Torn(str(func))
        return func(*args, **(kwargs or {}))


def options(scene: Scene, draw: random.Random) -> dict[str, Any]:
    """Return random options of an edit."""
    found: dict[str, Any] = {"init": draw.choice(["zero_out", "split", "paired"])}
    if draw.random() < 0.3:
        found["reconstruct"] = [scene.inputs]
    if draw.random() < 0.3:
        found["calibrate"] = [scene.inputs]
    return found


def tear(scene: Scene, draw: random.Random, operations: int) -> tuple[str, int, list[str]]:
    """Apply a random plan, torn at one of its operations.

    Returns:
        What came of it ("torn", "refused" or "done"), the number of operations to draw from next,
        and the parts that changed although the plan was not done.
    """
    plan, chosen = random_plan(scene, draw), options(scene, draw)
    before = everything(scene)
    mode = Tearing(draw.randint(1, operations))
    try:
        with mode:
            scene.apply(plan, **chosen)
    except Torn:
        outcome = "torn"
    except GrowmasError as error:
        outcome = "torn" if mode.count >= mode.number else f"refused: {str(error)[:60]}"
    else:
        return "done", mode.count, []
    after = everything(scene)
    return (
        outcome,
        operations + operations // 20,
        [name for name in before if before[name] != after[name]],
    )


def tear_many(network: str, optimizer: str, folder: Path, plans: int) -> dict[str, Any]:
    """Tear plans of one network until so many were torn, and return a row of the table."""
    draw, operations = random.Random(f"{network} {optimizer}"), 300
    made = scene(network, optimizer, folder)
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    while counts["torn"] < plans:
        outcome, operations, changed = tear(made, draw, operations)
        counts[outcome.partition(":")[0]] += 1
        wrong += [f"{outcome}: {part}" for part in changed]
        if outcome == "done" and counts["done"] % 20 == 0:
            made.begin_task(f"task {counts['done']}")
        if counts["refused"] > 10 * (plans + counts["done"]):
            raise RuntimeError(outcome)
    made.tracker.close()
    return {"network": network, "optimizer": optimizer, **counts, "wrong": sorted(set(wrong))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=3000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pairs = [(network, optimizer) for network in NETWORKS for optimizer in OPTIMIZERS]
    rows = []
    for network, optimizer in pairs:
        with tempfile.TemporaryDirectory() as place:
            plans = -(-given.plans // len(pairs))
            rows.append(tear_many(network, optimizer, Path(place), plans))
        print(json.dumps(rows[-1]), flush=True)
    (HERE / "torn.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
