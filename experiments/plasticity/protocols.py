"""Streams of tasks on MNIST-5k that never end, and methods that learn them one after another."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import growmas as gm
from growmas.data.sources import load_source

BATCH = 16
PERMUTATIONS, SAMPLES = 80, 1_000
LABELLINGS, IMAGES, EPOCHS = 25, 1_200, 15


@dataclass(frozen=True)
class Lesson:
    """One task: the batches in order, and what counts as its accuracy.

    Attributes:
        batches: Inputs and labels, in the order in which they are learnt.
        online: True counts each batch before it is learnt; False all images after the task.
    """

    batches: list[tuple[Tensor, Tensor]]
    online: bool


def images() -> tuple[Tensor, Tensor]:
    """Return the 4,000 training images of MNIST-5k, flat, and their labels."""
    source = load_source("mnist5k")
    return source.train_inputs.flatten(1), source.train_labels


def permutations(seed: int, tasks: int = PERMUTATIONS) -> Iterator[Lesson]:
    """Yield tasks of 1,000 images whose pixels are permuted in one way for each task."""
    x, y = images()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(tasks):
        order = torch.randperm(784, generator=generator)
        chosen = torch.randperm(len(x), generator=generator)[:SAMPLES]
        yield Lesson([(x[i][:, order], y[i]) for i in chosen.split(BATCH)], online=True)


def labellings(seed: int, tasks: int = LABELLINGS) -> Iterator[Lesson]:
    """Yield tasks of the same 1,200 images, with labels drawn anew for each task."""
    x, _ = images()
    generator = torch.Generator().manual_seed(seed)
    x = x[torch.randperm(len(x), generator=generator)[:IMAGES]]
    for _ in range(tasks):
        y = torch.randint(10, (IMAGES,), generator=generator)
        batches = []
        for _ in range(EPOCHS):
            order = torch.randperm(IMAGES, generator=generator)
            batches += [(x[i], y[i]) for i in order.split(BATCH)]
        yield Lesson(batches, online=False)


PROTOCOLS: dict[str, Callable[..., Iterator[Lesson]]] = {
    "permutations": permutations,
    "labellings": labellings,
}


def network() -> nn.Sequential:
    """Return an MLP of two hidden layers of 100."""
    return nn.Sequential(
        nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def optimizer_of(name: str, net: nn.Module) -> torch.optim.Optimizer:
    """Return Adam, or SGD with momentum."""
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=1e-3)
    return torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)


def replacement(
    method: str, structure: gm.Structure, optimizer: torch.optim.Optimizer
) -> gm.Plasticity | None:
    """Return what replaces units; None for plain training."""
    if method == "ours":
        return gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility())
    if method == "cbp naive":
        settings = gm.ReplaceLowUtility(
            rate=1e-4, utility="contribution", decay=0.99, every=1, init="zero_out", guard=None
        )
        return gm.Plasticity(structure, optimizer, settings, warm_up=False)
    return None


def learn(protocol: str, method: str, seed: int, optimizer_name: str) -> dict[str, list[float]]:
    """Learn a stream and return the accuracy of each task, and the units replaced so far."""
    torch.manual_seed(1000 + seed)
    net = network()
    start = copy.deepcopy(net.state_dict())
    structure = gm.Structure(net, torch.rand(4, 784))
    optimizer = optimizer_of(optimizer_name, net)
    plasticity = replacement(method, structure, optimizer)
    accuracy, replaced = [], []
    for lesson in PROTOCOLS[protocol](seed):
        if method == "fresh":
            net.load_state_dict(start)
            optimizer = optimizer_of(optimizer_name, net)
        right = count = 0
        for x, y in lesson.batches:
            logits = net(x)
            right += int((logits.argmax(1) == y).sum())
            count += len(y)
            optimizer.zero_grad()
            F.cross_entropy(logits, y).backward()
            optimizer.step()
            if plasticity is not None:
                plasticity.step()
        if not lesson.online:
            last = lesson.batches[-IMAGES // BATCH :]
            with torch.no_grad():
                right = sum(int((net(x).argmax(1) == y).sum()) for x, y in last)
            count = sum(len(y) for _, y in last)
        accuracy.append(right / count)
        replaced.append(0 if plasticity is None else plasticity.replaced)
    return {"accuracy": accuracy, "replaced": replaced}
