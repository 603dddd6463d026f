"""Forgetting and plasticity together: MAS over permutations, with and without replacement."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from networks import mlp
from protocols import BATCH
from torch import Tensor

import growmas as gm
from growmas.data.sources import load_source
from growmas.plasticity.guard import guarded

TASKS, SAMPLES, EPOCHS = 12, 1_000, 3
STRENGTHS = (0.0, 0.01, 0.1, 1.0)

VARIANTS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "defaults": {},
    "activation": {"utility": "activation"},
    "guard 1": {"guard": 1.0},
    "no guard": {"guard": None},
    "threshold 0.5, guard 1": {"threshold": 0.5, "guard": 1.0},
}
"""Settings of the replacement to compare, against none."""


def remember(
    strength: float, seed: int, *, settings: Mapping[str, Any] | None, width: int = 100
) -> dict[str, object]:
    """Return the accuracy on every task right after it, and on all tasks at the end.

    Accuracy is on 1,000 test images of each permutation, by one head; "final_views" asks the view
    of each task at the end, which leaves out the units that were born later. "dormant" is the
    share of units at the end that do nothing on the last task, "guarded" that of units that old
    tasks need.

    Args:
        strength: Of MAS.
        seed: Of network and stream.
        settings: Of `ReplaceLowUtility`; None replaces nothing.
        width: Of the hidden layers.
    """
    torch.manual_seed(2000 + seed)
    net = mlp(width)
    structure = gm.Structure(net, torch.rand(4, 784))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    mas = gm.MAS(net, strength=strength)
    plasticity = (
        None
        if settings is None
        else gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility(**settings), mas=mas)
    )
    source = load_source("mnist5k")
    train, test = source.train_inputs.flatten(1), source.test_inputs.flatten(1)
    generator = torch.Generator().manual_seed(seed)
    orders, after = [], []
    for task in range(TASKS):
        structure.begin_task(str(task))
        order = torch.randperm(784, generator=generator)
        orders.append(order)
        chosen = torch.randperm(len(train), generator=generator)[:SAMPLES]
        x, y = train[chosen][:, order], source.train_labels[chosen]
        for _ in range(EPOCHS):
            for batch in torch.randperm(SAMPLES, generator=generator).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(net(x[batch]), y[batch]).backward()
                mas.penalty_grad_()
                optimizer.step()
                if plasticity is not None:
                    plasticity.step()
        mas.consolidate(x.split(250))
        after.append(accuracy(net, test[:, order], source.test_labels))
    final = [accuracy(net, test[:, order], source.test_labels) for order in orders]
    viewed = []
    for task, order in enumerate(orders):
        with structure.view(task):
            viewed.append(accuracy(net, test[:, order], source.test_labels))
    held = [
        guarded(mas, group, structure.entries(name), 0.1)
        for name, group in structure.groups.items()
    ]
    return {
        "after": round(sum(after) / TASKS, 4),
        "last_quarter_after": round(sum(after[-3:]) / 3, 4),
        "final": round(sum(final) / TASKS, 4),
        "final_views": round(sum(viewed) / TASKS, 4),
        "dormant": round(gm.plasticity_signals(structure, [x[:500]])["dormant"], 3),
        "guarded": round(float(sum(each.sum() for each in held)) / sum(map(len, held)), 3),
        "replaced": 0 if plasticity is None else plasticity.replaced,
    }


def accuracy(net: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of samples that are answered right."""
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())
