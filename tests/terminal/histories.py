"""Histories for the printed tables, written without a network."""

import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fake_structure import (
    FakeArchitecture,
    FakeGroup,
    FakeLayer,
    FakeOperation,
    FakeStructure,
)

from growmas.history import TopologyTracker

NAMES = tuple(f"permutation {i}" for i in range(1, 8))


def write_lives(path: Path) -> None:
    """Write seven tasks with all events of units; the sixth has none, the last is unfinished."""
    structure = FakeStructure({"features.0": 12, "blocks.1.mlp.fc1": 9}, outputs=10)
    with TopologyTracker(structure, path) as tracker:
        for index, name in enumerate(NAMES):
            structure.begin_task(name)
            if index in (1, 2, 3):
                structure.edit(
                    grow={"features.0": 4, "blocks.1.mlp.fc1": 2},
                    parents={"features.0": {12: 3, 13: 3}} if index == 1 else {},
                    reason="GrowPolicy: 4 fresh units a group",
                    cause={"policy": "GrowPolicy", "value": 4},
                )
                oldest = structure.groups["features.0"].unit_ids[:index]
                structure.edit(
                    prune={"features.0": list(oldest)},
                    reason="PruneBelow: penalty saliency below 0.1 of the mean: features.0 "
                    f"{index} below 0.0{index}2",
                    cause={"policy": "PruneBelow", "threshold": 0.1},
                )
            if index == 4:
                structure.edit(
                    grow={"blocks.1.mlp.fc1": 1},
                    prune={"blocks.1.mlp.fc1": [2]},
                    replaced={"blocks.1.mlp.fc1": {15: 2}},
                    reason="ReplaceDead: no importance: blocks.1.mlp.fc1 1",
                )
            if index == 5:
                tracker.note("plateau", "window mean 0.12 below 0.2", cause={"value": 0.12})
            if index < 6:
                tracker.snapshot(
                    metrics={
                        f"accuracy/{NAMES[j]}": 0.95 - (index - j) / 50 for j in range(index + 1)
                    }
                    | {"accuracy": 0.95 - index / 100},
                    omega={"features.0": 0.5 + index, "blocks.1.mlp.fc1": 2.0 / (1 + index)},
                    frozen={"features.0": [7, 8]} if index in (2, 3) else {},
                )


def write_long(path: Path, *, tasks: int = 60) -> None:
    """Write many tasks and units; nothing changes between task 20 and task 40."""
    structure = FakeStructure({"fc1": 40, "fc2": 30})
    choice = random.Random(0)
    with TopologyTracker(structure, path) as tracker:
        for index in range(tasks):
            structure.begin_task(f"task {index}")
            if index and not 20 <= index < 40:
                pruned = choice.sample(structure.groups["fc1"].unit_ids, 3)
                structure.edit(grow={"fc1": 5, "fc2": 2}, prune={"fc1": pruned})
            tracker.snapshot(
                metrics={"accuracy": 0.9, f"accuracy/task {index}": 0.9}, omega={"fc1": 1.0}
            )


@dataclass
class ResidualStructure(FakeStructure):
    """A stem, a block with a skip connection, a concatenation, and a head for each of 4 tasks."""

    def architecture(self, *, count_flops: bool = True) -> FakeArchitecture:
        """Return the current network; FLOPs are twice the parameters."""
        width = self.groups["stem"].width
        shapes: dict[str, tuple[str, FakeGroup | None, int, int]] = {
            "stem": ("Conv2d", self.groups["stem"], 3, width),
            "block.conv1": ("Conv2d", self.groups["block.conv1"], width, 16),
            "block.norm": ("BatchNorm2d", None, 16, 16),
            "block.conv2": ("Conv2d", None, 16, width),
            **{f"heads.{i}": ("Linear", None, 2 * width, 10) for i in range(4)},
        }
        layers = tuple(
            FakeLayer(name, kind, group and group.name, a, b, a * b + b, 2 * (a * b + b))
            for name, (kind, group, a, b) in shapes.items()
        )
        operations = (
            FakeOperation("input", "Input", 3),
            FakeOperation("relu", "Relu", 16),
            FakeOperation("add", "Add", width),
            FakeOperation("relu_1", "Relu", width),
            FakeOperation("cat", "Cat", 2 * width),
            FakeOperation("mean", "Mean", 2 * width),
        )
        chain = ("input", "stem", "block.conv1", "block.norm", "relu", "block.conv2", "add")
        edges = (
            *pairwise(chain),
            *(("stem", "add"), ("add", "relu_1"), ("relu_1", "cat"), ("stem", "cat")),
            *(("cat", "mean"), *(("mean", f"heads.{i}") for i in range(4))),
        )
        parameters = sum(layer.parameters for layer in layers)
        return FakeArchitecture(layers, operations, tuple(edges), parameters, 2 * parameters)


def write_residual(path: Path) -> None:
    """Write one task of `ResidualStructure`."""
    structure = ResidualStructure({"stem": 8, "block.conv1": 16})
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot("only")
