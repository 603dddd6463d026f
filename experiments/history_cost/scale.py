"""Cost of exports of a large history: CPU seconds and peak memory, each in a process of its own.

python experiments/history_cost/scale.py [--groups 34] [--units 1000] [--tasks 200] [--keep FILE]

The history is written without a network: groups of equal width, 1% of each replaced in a task, and
random importance of every unit at the end of each task.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from growmas.history.importance import pack_importance
from growmas.history.store import Store, Topology

TURNOVER = 0.01  # share of every group that is replaced in a task
EXPORTS = {
    "importance.csv": ["--table", "importance"],
    "units.csv": ["--table", "units"],
    "events.csv": ["--table", "events"],
    "lineage.graphml": ["--graph", "lineage"],
    "lineage.json": ["--graph", "lineage"],
    "lineage.dot": ["--graph", "lineage"],
    "lineage.mmd": ["--graph", "lineage"],
}


def write(path: Path, groups: int, units: int, tasks: int) -> int:
    """Write a history, and return how many units ever lived."""
    draw = random.Random(0)
    pool = [draw.random() for _ in range(8 * units)]
    living = {f"layer{number}.weight": list(range(units)) for number in range(groups)}
    following = units
    store = Store.create(path, overwrite=True)
    for task in range(tasks):
        with store.transaction():
            store.add_task(f"task {task}")
            if task == 0:
                store.add_groups(dict.fromkeys(living, "neurons"))
                for group, ids in living.items():
                    store.add_units(group, dict.fromkeys(ids, 0))
            else:
                following = _replace(store, living, task, following)
            store.write_topology(task, Topology([], [], [], groups * units, 0, None))
            packed = {}
            for group, ids in living.items():
                at = draw.randrange(7 * units)
                packed[group] = pack_importance(group, ids, pool[at : at + units])
            store.write_importance(task, packed, {})
            store.finish_task(task)
    store.close()
    return groups * following


def _replace(store: Store, living: dict[str, list[int]], task: int, following: int) -> int:
    """Replace the oldest units of every group, and return the next free id."""
    count = max(1, int(TURNOVER * len(next(iter(living.values())))))
    event = store.add_event(task, "edit", "least important", {"policy": "measured"})
    born = list(range(following, following + count))
    for group, ids in living.items():
        replaced = dict(zip(born, ids[:count], strict=True))
        store.add_units(group, dict.fromkeys(born, task), event=event, replaced=replaced)
        store.end_units(group, ids[:count], task=task, event=event)
        ids[:] = [*ids[count:], *born]
    return following + count


def measure(path: Path, folder: Path) -> Iterator[tuple[str, float, float, float]]:
    """Yield name, CPU seconds, peak memory and size of each export, both in MB."""
    for name, options in EXPORTS.items():
        out = folder / name
        command = ["from growmas.cli import main; main()", "export", str(path), *options, "-o"]
        child = subprocess.Popen([sys.executable, "-c", *command, str(out)])
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{name}: exit status {status}")
        yield name, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3, out.stat().st_size / 1e6
        out.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=34)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="write the history here, or read it there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        path = given.keep or Path(place, "run.db")
        if not path.exists():
            ever = write(path, given.groups, given.units, given.tasks)
            print(f"{ever:,} units ever, {path.stat().st_size / 1e6:.0f} MB", flush=True)
        for name, seconds, memory, size in measure(path, Path(place)):
            print(f"{name:18} {seconds:6.1f} s {memory:7.0f} MB peak {size:7.1f} MB", flush=True)


if __name__ == "__main__":
    main()
