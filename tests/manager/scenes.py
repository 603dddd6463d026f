"""A small network under a manager, and data it can learn."""

import snapshots
import torch
import torch.nn.functional as F
from torch import nn

import growmas as gm


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))


def inputs(count=32, seed=1):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def labels(x, seed=0):
    weights = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
    return (x @ weights).argmax(1)


def managed(**policies):
    net, x = network(), inputs()
    structure = gm.Structure(net, x)
    mas = gm.MAS(net)
    optimizer = torch.optim.Adam(net.parameters())
    manager = gm.StructuralManager(structure, mas=mas, optimizer=optimizer, **policies)
    return manager, structure, mas, optimizer, x


def loss(model, batch):
    x, y = batch
    return F.cross_entropy(model(x), y)


def train(model, mas, batch, steps=3, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        value = loss(model, batch) + mas.penalty()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return float(value.detach())


def everything(manager, optimizer):
    """All that a preview must leave bit-identical."""
    structure, statistics = manager.structure, manager.statistics
    return {
        "model": snapshots.of_model(structure.model),
        "groups": snapshots.of_groups(structure),
        "tasks": structure.tasks,
        "mas": snapshots.of_penalty(manager.mas),
        "measured": manager.mas.measured,
        "optimizer": snapshots.of_optimizer(optimizer),
        "random": snapshots.of_random_state(),
        "memory": {k: v for k, v in manager.state_dict().items() if k != "statistics"},
        "statistics": statistics
        and {
            n: (m.count, snapshots.bits(m.mean), snapshots.bits(m.scatter))
            for n, m in statistics.moments.items()
        },
    }
