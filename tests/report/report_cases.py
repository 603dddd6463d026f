"""A small history with everything that a report shows, and with hostile names."""

import random
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "history"))  # for its fake structure

from fake_structure import FakeStructure

from growmas.history import TopologyTracker

NAMES = ["digits 0/1", "digits 2/3", "<script>alert('task')</script>", "digits 6/7"]
HOSTILE = "<img src=x onerror=alert(1)>"


def write_history(path: Path, *, tasks: int = 4, groups: int = 2) -> Path:
    """Write growth, pruning, a split and a replacement; the last task has no snapshot."""
    widths = {HOSTILE if i == 1 else f"fc{i}": 24 + 8 * i for i in range(groups)}
    structure, choice = FakeStructure(widths, outputs=10), random.Random(0)
    names = (NAMES + [f"digits {i}" for i in range(tasks)])[:tasks]
    with TopologyTracker(structure, path) as tracker:
        for i, name in enumerate(names):
            structure.begin_task(name)
            if i:
                ids = structure.groups["fc0"].unit_ids
                structure.edit(
                    grow={"fc0": 6},
                    parents={"fc0": {structure.next_id["fc0"]: ids[0]}},
                    reason=f"growth & <b>why</b> {i}",
                )
                living = {g: structure.groups[g].unit_ids for g in widths}
                pruned = {
                    g: choice.sample(ids, min(2 + i, len(ids) // 4)) for g, ids in living.items()
                }
                structure.edit(prune=pruned, reason="pruned below 0.1")
            if i < tasks - 1:
                accuracy = {f"accuracy/{names[j]}": 0.95 - 0.02 * (i - j) for j in range(i + 1)}
                omega = dict.fromkeys(widths, 0.01 * (i + 1))
                tracker.snapshot(metrics=accuracy, omega=omega)
        tracker.note("plateau", "the loss is flat")
    return path
