"""Time that the MAS penalty adds to a training step.

    python experiments/penalty_cost/measure.py [--device cpu] [--repeats 60] [--net mlp]

Within one repetition every variant of a step is timed on the same batch, in random order, and its
ratio to the plain step is taken; the median over repetitions is printed. The yardstick multiplies
every gradient by 1 in place, which is the lowest cost of reading and writing gradients. On a CPU,
CPU time of one thread is taken, so that other work on the machine counts less.
"""

import argparse
import random
import statistics
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn

import growmas as gm

STRENGTH = 1e-3


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outside)
        self.short = nn.Identity()
        if stride != 1 or inside != outside:
            projection = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.short = nn.Sequential(projection, nn.BatchNorm2d(outside))

    def forward(self, x):
        inner = self.first_norm(self.first(x)).relu()
        return (self.second_norm(self.second(inner)) + self.short(x)).relu()


def resnet18():
    """Return a ResNet-18 for 32 × 32 images: 11.2 million parameters."""
    layers, inside = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inside, outside, stride), Block(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def mlp():
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


NETWORKS = {
    "mlp": (mlp, (64, 784), "MLP 784-256-256-10, batch 64"),
    "resnet18": (resnet18, (32, 3, 32, 32), "ResNet-18 at 32×32, batch 32"),
}
OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 1e-3),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 1e-5),
}


class Step:
    """A network in training, with one variant of a step."""

    def __init__(self, build, shape, make_optimizer, way, device):
        torch.manual_seed(0)
        self.model = build().to(device)
        self.way, self.device = way, device
        self.optimizer = make_optimizer(self.model.parameters())
        self.mas = gm.MAS(self.model, strength=STRENGTH)
        self.mas.consolidate([torch.randn(8, *shape[1:], device=device)])

    def __call__(self, inputs, labels, times):
        synchronize(self.device)
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        start = clock()
        for _ in range(times):
            loss = F.cross_entropy(self.model(inputs), labels)
            if self.way == "penalty()":
                loss = loss + self.mas.penalty()
            self.optimizer.zero_grad()
            loss.backward()
            if self.way == "penalty_grad_()":
                self.mas.penalty_grad_()
            elif self.way == "yardstick":
                for p in self.model.parameters():
                    p.grad.mul_(1.0)
            self.optimizer.step()
        synchronize(self.device)
        return (clock() - start) / times


def synchronize(device):
    if device != "cpu":
        torch.cuda.synchronize()


def ratios(network, optimizer, device, repeats):
    """Return the median seconds of a plain step, and the median ratios of the others to it."""
    build, shape, _ = NETWORKS[network]
    ways = ("plain", "penalty_grad_()", "penalty()", "yardstick")
    steps = {way: Step(build, shape, OPTIMIZERS[optimizer], way, device) for way in ways}
    inputs = torch.randn(shape, device=device)
    labels = torch.randint(10, shape[:1], device=device)
    times = 20 if network == "mlp" or device != "cpu" else 1
    for step in steps.values():
        step(inputs, labels, 3)
    rows = []
    for _ in range(repeats):
        order = random.sample(ways, len(ways))
        taken = {way: steps[way](inputs, labels, times) for way in order}
        rows.append([taken["plain"], *(taken[way] / taken["plain"] for way in ways[1:])])
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--net", choices=NETWORKS, action="append")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", gm.GrowmasWarning)  # nothing is learnt from noise
    print("| network | optimizer | plain step | penalty_grad_() | penalty() | yardstick |")
    print("|---|---|---|---|---|---|")
    for network in asked.net or NETWORKS:
        repeats = asked.repeats if network == "mlp" else max(5, asked.repeats // 5)
        for optimizer in OPTIMIZERS:
            plain, *others = ratios(network, optimizer, asked.device, repeats)
            cells = " | ".join([f"{1e3 * plain:.2f} ms", *(f"{ratio:.3f}×" for ratio in others)])
            print(f"| {NETWORKS[network][2]} | {optimizer} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
