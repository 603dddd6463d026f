"""CPU time of a training step with replacement over the same step without it."""

import time

import torch
import torch.nn.functional as F
from networks import mlp
from torch import nn

import growmas as gm

STEPS, ROUNDS = 200, 15


def convnet() -> nn.Sequential:
    """Return a small conv net for 28 × 28 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def step_costs() -> dict[str, dict[str, float]]:
    """Return milliseconds of a step, and the ratio, for two networks; rounds alternate.

    Labels are random and change every 200 steps, so that units die and are replaced. Denormal
    numbers are flushed: the moments of dead units become denormal, which makes steps of plain
    training up to half slower, and replacement faster than plain training.
    """
    torch.set_flush_denormal(True)
    cases = {
        "MLP of 2 × 100, batch 16": (mlp, (16, 784)),
        "conv net of 16 and 32 channels, batch 32": (convnet, (32, 1, 28, 28)),
    }
    found = {}
    for name, (build, shape) in cases.items():
        scenes = [_scene(build(), shape, replacing=each) for each in (False, True)]
        times: list[list[float]] = [[], []]
        for number in range(ROUNDS):
            for scene, held in zip(scenes, times, strict=True):
                start = time.process_time()
                for _ in range(STEPS):
                    scene()
                if number:  # the first round warms up
                    held.append((time.process_time() - start) / STEPS * 1000)
        plain, ours = (sorted(held)[len(held) // 2] for held in times)
        ratio = sorted(b / a for a, b in zip(*times, strict=True))[len(times[0]) // 2]
        found[name] = {"plain": round(plain, 3), "ours": round(ours, 3), "ratio": round(ratio, 3)}
    return found


def _scene(net: nn.Module, shape: tuple[int, ...], *, replacing: bool):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    x, y = torch.rand(20, *shape), torch.randint(10, (20, shape[0]))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    structure = gm.Structure(net, x[0, :4])
    plasticity = gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility()) if replacing else None
    steps = 0

    def step() -> None:
        nonlocal steps, y
        if steps % STEPS == 0:
            y = torch.randint(10, y.shape)
        optimizer.zero_grad()
        F.cross_entropy(net(x[steps % 20]), y[steps % 20]).backward()
        optimizer.step()
        if plasticity is not None:
            plasticity.step()
        steps += 1

    return step
