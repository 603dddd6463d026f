"""Memory and time of a step over hundreds of tasks, task-aware and task-free, and their figure.

python experiments/long_runs/study.py [--aware 300] [--free 500]
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import growmas as gm
from growmas.report.export import as_svg
from growmas.report.figure import LEFT, WIDTH, Figure, Frame, Numbers, draw_values
from growmas.report.scale import Scale, ticks
from growmas.report.svg import Drawing

HERE = Path(__file__).parent
PIXELS, CLASSES, STEPS = 32, 4, 30
Row = dict[str, float]


def tasks(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and labels of tasks: one problem, each time with its pixels in another order."""
    inputs = torch.randn(STEPS * 32, PIXELS)
    labels = (inputs @ torch.randn(PIXELS, CLASSES)).argmax(1)
    for _ in range(count):
        yield inputs[:, torch.randperm(PIXELS)], labels


def network() -> nn.Sequential:
    """Return a network of two hidden layers."""
    return nn.Sequential(
        nn.Linear(PIXELS, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES)
    )


def row(task: int, steps: list[float], model: nn.Module, **others: float) -> Row:
    """Return what a task has cost: milliseconds of its steps, and what the process holds.

    Args:
        task: From 1.
        steps: CPU seconds of its steps.
        model: Its parameters are counted.
        others: Further numbers.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "task": task,
        "ms": round(1e3 * statistics.median(steps), 3),
        "mean_ms": round(1e3 * statistics.mean(steps), 3),
        "MB": round(pages * resource.getpagesize() / 1e6, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        **others,
    }


def aware(count: int, folder: Path) -> Iterator[Row]:
    """Yield a row for each task of a loop that names its tasks."""
    model = network()
    optimizer, structure = (
        torch.optim.Adam(model.parameters()),
        gm.Structure(model, torch.rand(2, PIXELS)),
    )
    mas = gm.MAS(model, strength=0.01)
    tracker = gm.TopologyTracker(structure, folder / "run.db")
    manager = gm.StructuralManager(
        structure, mas=mas, optimizer=optimizer, tracker=tracker, grow=gm.GrowPolicy(2),
        prune=gm.PrunePolicy(ratio=0.02),
    )  # fmt: skip
    for task, (inputs, labels) in enumerate(tasks(count), 1):
        begun = time.process_time()
        manager.begin_task(f"task {task}")
        boundary, seconds = time.process_time() - begun, []
        for x, y in zip(inputs.split(32), labels.split(32), strict=True):
            begun = time.process_time()
            optimizer.zero_grad()
            (nn.functional.cross_entropy(model(x), y) + mas.penalty()).backward()
            optimizer.step()
            seconds.append(time.process_time() - begun)
        begun = time.process_time()
        manager.end_task(inputs.split(128))
        boundary += time.process_time() - begun
        yield row(task, seconds, model, boundary_ms=round(1e3 * boundary, 1))


def free(count: int, folder: Path) -> Iterator[Row]:
    """Yield a row for each task of a stream whose tasks are not named."""
    model = network()
    structure = gm.Structure(model, torch.rand(2, PIXELS))
    learner = gm.TaskFreeLearner(
        structure, torch.optim.Adam(model.parameters(), lr=0.01),
        mas=gm.MAS(model, strength=0.01), contexts=count, grow=gm.GrowPolicy(2),
        prune=gm.PrunePolicy(ratio=0.02), tracker=gm.TopologyTracker(structure, folder / "run.db"),
    )  # fmt: skip
    for task, (inputs, labels) in enumerate(tasks(count), 1):
        seconds = []
        for x, y in zip(inputs.split(32), labels.split(32), strict=True):
            begun = time.process_time()
            learner.learn(x, y)
            seconds.append(time.process_time() - begun)
        yield row(task, seconds, model, contexts=len(structure.tasks))


def panel(drawing: Drawing, frame: Frame, title: str, rows: list[Row], key: str) -> None:
    """Draw a number of each task, with the axis on the left."""
    values = [row[key] for row in rows]
    scale = frame.upward(0, ticks(0, 1.15 * max(values))[-1])
    across = Scale(1, rows[-1]["task"], frame.x, frame.right)
    draw_values(drawing, frame, scale)
    points = [(across.at(row["task"]), scale.at(min(row[key], scale.high))) for row in rows]
    drawing.polyline(points, "l0")
    drawing.text(frame.x, frame.y - 8, title, "tb")
    drawing.text(frame.right, frame.bottom + 15, f"task {rows[-1]['task']:.0f}", anchor="end")


def draw(kinds: dict[str, list[Row]]) -> str:
    """Return the figure as SVG: a column for each kind of run."""
    drawing, width = Drawing(WIDTH, 470), (WIDTH - 30) / 2
    shown = {
        "ms": "CPU milliseconds of a step, median of the task",
        "MB": "memory of the process, MB",
        "parameters": "parameters of the network",
    }
    for column, (kind, rows) in enumerate(kinds.items()):
        for line, (key, words) in enumerate(shown.items()):
            left = column * (width + 30) + LEFT
            frame = Frame(left, 30 + 150 * line, width - LEFT - 14, 95)
            panel(drawing, frame, f"{kind}: {words}", rows, key)
    numbers = Numbers(("task",), ())
    return as_svg(Figure("long_runs", "Long runs", "Cost of a step over tasks.", drawing, numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aware", type=int, default=300)
    parser.add_argument("--free", type=int, default=500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    kinds: dict[str, Any] = {"task-aware": [], "task-free": []}
    runs = {"task-aware": (aware, given.aware), "task-free": (free, given.free)}
    for kind, (run, count) in runs.items():
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as place:
            for each in run(count, Path(place)):
                kinds[kind].append(each)
                if each["task"] % 25 == 0 or each["task"] == 1:
                    print(kind, json.dumps(each), flush=True)
        if kinds[kind]:
            (HERE / "results.json").write_text(json.dumps(kinds) + "\n")
    (HERE / "cost.svg").write_text(draw(kinds))


if __name__ == "__main__":
    main()
