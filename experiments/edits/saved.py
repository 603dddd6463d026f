"""Checkpoints after fifty random edits: outputs, views, contexts and the next steps are equal.

python experiments/edits/saved.py [--edits 50]
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from edit_scenes import NETWORKS, OPTIMIZERS, Scene, everything, first, flat, random_plan, scene
from torch import nn

import growmas as gm
from growmas.errors import GrowmasError

HERE = Path(__file__).parent


def edited(network: str, optimizer: str, folder: Path, edits: int) -> Scene:
    """Return a scene after random edits, with a task begun after every tenth."""
    made, draw, done = scene(network, optimizer, folder), random.Random(0), 0
    while done < edits:
        plan = random_plan(made, draw)
        try:
            made.apply(plan, init=draw.choice(["zero_out", "split"]))
        except GrowmasError:  # nothing to do, or nothing to split
            continue
        done += 1
        made.train(1, seed=done)
        if done % 10 == 0:
            made.begin_task(f"after {done}")
    made.tracker.close()
    return made


def save(made: Scene, path: Path) -> None:
    """Write a checkpoint of a scene."""
    gm.save(
        path,
        structure=made.structure,
        mas=made.mas,
        optimizer=made.optimizer,
        context=made.context,
        protect=made.protect,
    )


def loaded(made: Scene, network: str, optimizer: str, path: Path, folder: Path) -> Scene:
    """Return the scene of a checkpoint, on a model of other weights."""
    fresh = scene(network, optimizer, folder, seed=1)
    fresh.tracker.close()
    model = NETWORKS[network]()
    other = OPTIMIZERS[optimizer](model.parameters())
    protect, context = gm.HardProtection(model, fraction=0.1), gm.GaussianContext(4)
    structure, mas = gm.load(
        path,
        model=model,
        example_inputs=made.inputs,
        optimizer=other,
        context=context,
        protect=protect,
    )
    assert mas is not None
    return replace(
        made, structure=structure, mas=mas, optimizer=other, context=context, protect=protect
    )


def differing(one: Scene, other: Scene) -> list[str]:
    """Return the parts in which two scenes differ; both are trained for three steps."""
    wrong = [name for name, part in states(one).items() if part != states(other)[name]]
    answers = zip(outputs(one), outputs(other), strict=True)
    wrong += [f"output {n}" for n, (a, b) in enumerate(answers) if flat(a) != flat(b)]
    for each in (one, other):
        each.train(3, seed=5)
    wrong += [f"{name}, three steps later" for name, part in states(one).items()
              if part != states(other)[name]]  # fmt: skip
    return wrong


def states(scene: Scene) -> dict[str, object]:
    """Return what a checkpoint holds, by part."""
    held = ("attributes", "model", "structure", "optimizer", "omega", "protection", "context")
    return {name: part for name, part in everything(scene).items() if name in held}


@torch.no_grad()
def outputs(scene: Scene) -> list[Any]:
    """Return the outputs of the network, of all its views, and of its context."""
    model, found = scene.model.eval(), [scene.model.eval()(scene.inputs)]
    for task in scene.structure.tasks:
        try:
            with scene.structure.view(task):
                found.append(model(scene.inputs))
            found.append(scene.structure.extract(task).eval()(scene.inputs))
        except GrowmasError as error:  # there is no view, or no unit, of that time any more
            found.append(str(error))
    found.append(scene.context.log_likelihood(scene.inputs))
    return found


def measure(width: int, folder: Path) -> dict[str, float]:
    """Return how many times the time of writing and syncing as many bytes a save takes.

    The ratios are medians of nine in turn, of wall time and of CPU time.
    """
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
    structure = gm.Structure(model, torch.rand(2, width))
    optimizer = torch.optim.Adam(model.parameters())
    first(model(torch.rand(2, width))).sum().backward()
    optimizer.step()
    tensors, ratios = folder / "saved" / "tensors.safetensors", []

    def write(content: bytes) -> None:
        with (folder / "raw").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    for _ in range(9):
        saved = times(lambda: gm.save(folder / "saved", structure=structure, optimizer=optimizer))
        content = tensors.read_bytes()
        raw = times(lambda content=content: write(content))
        ratios.append([one / other for one, other in zip(saved, raw, strict=True)])
    wall, cpu = (statistics.median(each) for each in zip(*ratios, strict=True))
    return {"MB": len(content) / 1e6, "wall": round(wall, 2), "cpu": round(cpu, 2)}


def times(work: Callable[[], None]) -> tuple[float, float]:
    """Return seconds of wall time and of CPU time."""
    begun = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for network in NETWORKS:
        for optimizer in OPTIMIZERS:
            with tempfile.TemporaryDirectory() as place:
                made = edited(network, optimizer, Path(place), given.edits)
                save(made, Path(place, "saved"))
                other = loaded(made, network, optimizer, Path(place, "saved"), Path(place))
                wrong = differing(made, other)
            rows.append({"network": network, "optimizer": optimizer, "wrong": wrong})
            print(json.dumps(rows[-1]), flush=True)
    for width in (256, 1024, 2048):
        with tempfile.TemporaryDirectory() as place:
            rows.append(measure(width, Path(place)))
        print(json.dumps(rows[-1]), flush=True)
    (HERE / "saved.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
