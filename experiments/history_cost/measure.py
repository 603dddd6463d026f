"""Cost of a topology history: recording, storing, opening and reading.

A network of 50,000 units is edited and recorded after each of 100 tasks; then the file is read as
the printed tables read it. README.md has the results.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

import growmas as gm

TURNOVER = 0.01  # share of every wide group that is pruned, and grown, in a task
STEPS = 100  # training steps of a task, with batches of 64, to compare recording with


class TimedTracker(gm.TopologyTracker):
    """A tracker that measures the time of its part of every edit."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.edits: list[float] = []
        super().__init__(*arguments, **options)

    @contextmanager
    def _record(self, edit: gm.Edit) -> Iterator[None]:
        start = time.perf_counter()
        with super()._record(edit):
            yield
        self.edits.append(time.perf_counter() - start)


def narrow(groups: int, units: int) -> nn.Module:
    """Return wide layers with eight units between them: many units, few weights."""
    between = [nn.Linear(units, 8), nn.Linear(8, units), nn.ReLU()]
    rest = [layer for _ in range(groups - 1) for layer in map(_fresh, between)]
    return nn.Sequential(nn.Linear(8, units), nn.ReLU(), *rest, nn.Linear(units, 10))


def wide(groups: int, units: int) -> nn.Module:
    """Return as many units in fully connected layers."""
    rest = [m for _ in range(groups - 1) for m in (nn.Linear(units, units), nn.ReLU())]
    return nn.Sequential(nn.Linear(8, units), nn.ReLU(), *rest, nn.Linear(units, 10))


def _fresh(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features)
    return nn.ReLU()


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def importance(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return random importance of the right shapes; the values do not matter here."""
    return {name: torch.rand_like(p) for name, p in model.named_parameters()}


def record(path: Path, groups: int, units: int, tasks: int) -> None:
    """Record an edit and a snapshot in every task, and print their cost."""
    structure = gm.Structure(narrow(groups, units), torch.rand(2, 8))
    snapshots, numbers = [], 0
    with TimedTracker(structure, path) as tracker:
        for task in range(tasks):
            structure.begin_task(f"task {task}")
            prune = {
                name: group.unit_ids[: int(TURNOVER * group.width)]
                for name, group in structure.groups.items()
            }
            plan = gm.Plan(
                prune=prune,
                grow={name: len(ids) for name, ids in prune.items()},
                reason="measured",
                cause={"policy": "measured", "threshold": TURNOVER},
            )
            structure.apply(plan, verify=False)
            omega = importance(structure.model)
            metrics = {f"accuracy/task {other}": 0.9 for other in range(task + 1)}
            snapshot = lambda: tracker.snapshot(metrics=metrics, omega=omega)  # noqa: B023, E731
            snapshots.append(timed(snapshot))
            numbers += sum(group.width for group in structure.groups.values())
        born = sum(group.next_id for group in structure.groups.values())
    size, raw = path.stat().st_size, 4 * numbers
    print(f"units ever: {born:,}; numbers: {numbers:,}")
    print(f"snapshot, median and worst, ms: {_milliseconds(snapshots)}")
    print(
        f"the tracker's part of an edit of {2 * TURNOVER:.0%}, ms: {_milliseconds(tracker.edits)}"
    )
    print(f"file {size / 1e6:.1f} MB, raw numbers {raw / 1e6:.1f} MB: {size / raw:.2f} times")


def read(path: Path) -> None:
    """Print the time of the queries of all tables, first and repeated."""
    questions: dict[str, Callable[[gm.TopologyHistory], object]] = {
        "open, tasks": lambda h: h.tasks(),
        "widths, sizes, accuracy, importance per group (show)": lambda h: (
            h.turnover(), h.sizes(), h.accuracy(), h.importance_summary(), h.groups(),
        ),
        "log": lambda h: h.log(),
        "diff of two tasks, unit by unit": lambda h: h.diff(0, -1 + len(h.tasks())),
        "one unit's life": lambda h: h.unit("0", 500),
        "survival": lambda h: h.survival(),
        "lifelines of a group": lambda h: h.lifelines("0"),
        "importance of a group's units over tasks": lambda h: h.group_importance("0"),
        "importance of all units at a task": lambda h: h.importance(50),
        "graph": lambda h: h.graph(50),
    }  # fmt: skip
    for name, question in questions.items():
        seconds = [timed(lambda: _ask(path, question)) for _ in range(3)]  # noqa: B023
        print(f"{name}, ms, first and best: {1e3 * seconds[0]:.0f} {1e3 * min(seconds):.0f}")
    command = [sys.executable, "-c", "from growmas.cli import main; main()", "show", str(path)]
    show = [timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in "123"]
    bare = [timed(lambda: subprocess.run([*command[:3], "--help"], capture_output=True, check=True))
            for _ in "123"]  # fmt: skip
    print(f"growmas show, a process, s: {min(show):.2f}; growmas --help: {min(bare):.2f}")


def _ask(path: Path, question: Callable[[gm.TopologyHistory], object]) -> None:
    with gm.TopologyHistory(path) as history:
        question(history)


def share(path: Path, groups: int, units: int) -> None:
    """Compare a snapshot with a task of training, in a network of fully connected layers."""
    model = wide(groups, units)
    structure = gm.Structure(model, torch.rand(2, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, labels = torch.rand(64, 8), torch.randint(10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

    steps = [timed(step) for _ in range(6)][1:]
    omega = importance(model)
    with gm.TopologyTracker(structure, path) as tracker:
        snapshots = [timed(lambda: tracker.snapshot(str(i), omega=omega)) for i in range(5)]  # noqa: B023
        without = [timed(lambda: tracker.snapshot(str(10 + i))) for i in range(3)]  # noqa: B023
    task = STEPS * statistics.median(steps)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.0f} M parameters; a step: {1e3 * statistics.median(steps):.0f} ms")
    print(f"snapshot, ms: {_milliseconds(snapshots)}; without importance {_milliseconds(without)}")
    print(f"share of a task of {STEPS} steps: {statistics.median(snapshots) / task:.2%}")


def _milliseconds(seconds: list[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.0f} {1e3 * max(seconds):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="write the history here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder, "run.db")
        record(path, options.groups, options.units, options.tasks)
        read(path)
        share(Path(folder, "share.db"), options.groups, options.units)


if __name__ == "__main__":
    main()
