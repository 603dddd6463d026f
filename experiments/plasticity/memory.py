"""Forgetting and plasticity together: MAS over permutations, with and without replacement."""

import torch
import torch.nn.functional as F
from protocols import BATCH, network
from torch import Tensor

import growmas as gm
from growmas.data.sources import load_source

TASKS, SAMPLES, EPOCHS = 12, 1_000, 3
STRENGTHS = (0.0, 0.01, 0.1, 1.0)


def remember(strength: float, seed: int, *, replacing: bool) -> dict[str, object]:
    """Return the accuracy on every task right after it, and on all tasks at the end.

    Accuracy is on 1,000 test images of each permutation, by one head.
    """
    torch.manual_seed(2000 + seed)
    net = network()
    structure = gm.Structure(net, torch.rand(4, 784))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    mas = gm.MAS(net, strength=strength)
    plasticity = (
        gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility(), mas=mas) if replacing else None
    )
    source = load_source("mnist5k")
    train, test = source.train_inputs.flatten(1), source.test_inputs.flatten(1)
    generator = torch.Generator().manual_seed(seed)
    orders, after = [], []
    for _ in range(TASKS):
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
    return {
        "replacing": replacing,
        "after": round(sum(after) / TASKS, 4),
        "last_quarter_after": round(sum(after[-3:]) / 3, 4),
        "final": round(sum(final) / TASKS, 4),
        "replaced": 0 if plasticity is None else plasticity.replaced,
    }


def accuracy(net: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of samples that are answered right."""
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())
