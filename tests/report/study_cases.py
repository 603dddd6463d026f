"""A small study: two methods over four seeds, with hostile names."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "history"))  # for its fake structure

from fake_structure import FakeStructure

from growmas.history import TopologyTracker

TASKS = ["<i>0/1</i>", "2/3"]
ACCURACY = {"mas": (0.9, 0.92, 0.91, 0.93), "<b>er</b>": (0.7, 0.73, 0.72, 0.74)}
SEEDS = range(4)


def write_run(folder: Path, method: str, seed: int, accuracy: float, **changes: object) -> None:
    folder.mkdir(parents=True)
    config = {"name": folder.name, "seed": seed, "method": {"kind": method}, "stream": {"n": 2}}
    (folder / "config.yaml").write_text(json.dumps(config))
    metrics = {
        "name": folder.name, "method": method, "stream": "digits split", "scenario": "task",
        "seed": seed, "tasks": TASKS, "accuracy": [[1.0], [accuracy, accuracy]],
        "parameters": 1000, "units": {}, "seconds": 2.0, "status": "finished",
        "memory_size": 50_000 if method == "mas" else 0, **changes,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with TopologyTracker(FakeStructure({"fc": 4}), folder / "history.db") as tracker:
        for step in (1, 2, 3):
            tracker.scalars({"loss": 10.0**-step * (seed + 1)}, step=step, task="a", epoch=step)


def write_study(root: Path) -> Path:
    """Write a sweep `s` below a folder, and return the folder."""
    names = []
    for method, values in ACCURACY.items():
        for seed, accuracy in zip(SEEDS, values, strict=True):
            names.append({"name": f"kind={method[:3]},seed={seed}"})
            write_run(root / "s" / names[-1]["name"].replace("/", ""), method, seed, accuracy)
    runs = [{**each, "setting": {}, "message": ""} for each in names]
    (root / "s" / "sweep.json").write_text(json.dumps({"runs": runs}))
    return root
