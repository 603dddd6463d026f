"""Accuracy after units are removed, without labels and without retraining.

    python experiments/prune_quality/study.py [--network mlp|convnet|resnet|fashion] [--workers 2]
        [--seed 1 ...] [--choice greedy ...]

Every hidden group loses the same share of its units, chosen by saliencies of Torch-Pruning 1.6.1,
by growmas's Σ Ω θ², and by the greedy `Structure.select`. Each is shown as a plain cut, with its
norms recalibrated, with growmas's reconstruction, and with 400 steps of distillation after that;
all take the same unlabelled training inputs. Taylor and Hessian take labels of the training data.
"""

import argparse
import copy
import gzip
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn

import growmas as gm
from growmas.data import Dataset, load_source
from growmas.models.convnet import ConvNet
from growmas.models.mlp import MLP

RATIOS = (0.5, 0.7, 0.8, 0.9)
SEEDS = (1, 2, 3, 4, 5)
SAMPLES = 1000  # unlabelled inputs for importance and reconstruction
STEPS = 400  # of distillation
POLISHED = 4000  # unlabelled inputs for it
GREEDY = "greedy (growmas)"
CHOICES = (GREEDY, "Σ Ω θ² (growmas)", "magnitude", "LAMP", "Taylor", "Hessian", "random")
LABELLED = 256  # samples whose gradients Taylor and Hessian take


class Block(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.short = nn.Identity() if stride == 1 else nn.Conv2d(width_in, width, 1, stride)

    def forward(self, x):
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (inner + self.short(x)).relu()


def resnet():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def fashion_resnet():
    """Return the network of 175 thousand parameters, 5.5 million multiply-adds."""
    blocks = [Block(16, 16, 1), Block(16, 16, 1)]
    for width in (32, 64):
        blocks += [Block(width // 2, width, 2), Block(width, width, 1)]
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def idx(name):
    """Return an array of Fashion-MNIST's files, in the folder that FASHION_MNIST names."""
    with gzip.open(Path(os.environ["FASHION_MNIST"]) / f"{name}-ubyte.gz") as file:
        raw = np.frombuffer(file.read(), np.uint8)
    return torch.tensor(raw[16:].reshape(-1, 1, 28, 28) if "idx3" in name else raw[8:])


def fashion():
    parts = [idx(f"{part}-{kind}") for part in ("train", "t10k") for kind in KINDS]
    x, y, test_x, test_y = parts
    return Dataset(
        "fashion", x.float() / 255, y.long(), test_x.float() / 255, test_y.long(),
        tuple(map(str, range(10))),
    )  # fmt: skip


KINDS = ("images-idx3", "labels-idx1")
NETWORKS = {
    "mlp": ("mnist5k", 15, lambda: MLP((1, 28, 28), [256, 256], [10])),
    "convnet": ("mnist5k", 8, lambda: ConvNet((1, 28, 28), [16, 32], 128, [10])),
    "resnet": ("digits", 15, resnet),
    "fashion": ("fashion", 3, fashion_resnet),
}


def train(net, data, epochs):
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(data.train_inputs)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(net(data.train_inputs[rows]), data.train_labels[rows]).backward()
            optimizer.step()
    return net.eval()


@torch.no_grad()
def accuracy(net, data):
    return 100 * (net(data.test_inputs).argmax(1) == data.test_labels).float().mean().item()


def torch_pruning_saliency(name, net, structure, data):
    """Return the saliencies of a `torch_pruning` importance: group name -> [U]."""
    importance = {
        "magnitude": tp.importance.MagnitudeImportance,
        "LAMP": tp.importance.LAMPImportance,
        "Taylor": tp.importance.TaylorImportance,
        "Hessian": tp.importance.HessianImportance,
        "random": tp.importance.RandomImportance,
    }[name]()
    rows = torch.randperm(len(data.train_inputs))[:LABELLED]
    net = copy.deepcopy(net)
    losses = F.cross_entropy(
        net(data.train_inputs[rows]), data.train_labels[rows], reduction="none"
    )
    if name == "Taylor":
        losses.mean().backward()
    if name == "Hessian":  # its own accumulate_grad (1.6.1) keeps the last sample alone
        losses.mean().backward(retain_graph=True)  # it overwrites gradients, so there must be some
        squares = {p: torch.zeros_like(p) for p in net.parameters()}
        for loss in losses:
            gradients = torch.autograd.grad(loss, list(squares), retain_graph=True)
            for parameter, gradient in zip(squares, gradients, strict=True):
                squares[parameter] += gradient.square()
        importance._accu_grad = squares
        importance._counter = dict.fromkeys(squares, LABELLED)
    graph = tp.DependencyGraph().build_dependency(net, structure.example_inputs)
    found = {}
    for group in structure.groups.values():
        root = net.get_submodule(group.name)
        fn = graph.get_pruner_of_module(root).prune_out_channels
        everyone = list(range(root.weight.shape[0]))
        found[group.name] = importance(graph.get_pruning_group(root, fn, everyone))
    return found


@torch.no_grad()
def recalibrated(net, batches):
    """Let the norms measure their running statistics anew."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the mean over batches
    net.train()
    for batch in batches:
        net(batch)
    return net.eval()


def choices(names, net, structure, data, unlabelled):
    """Return functions of a ratio that give the units to remove, by the name of the choice."""
    omega = gm.mas_importance(net, unlabelled)

    def ranked(saliency):
        return lambda ratio: {
            group.name: saliency[group.name].argsort()[: int(ratio * group.width)].tolist()
            for group in structure.groups.values()
        }

    found = {}
    for name in names:
        if name == GREEDY:
            found[name] = lambda ratio: dict(structure.select(unlabelled, ratio=ratio).prune)
        elif name == "Σ Ω θ² (growmas)":
            found[name] = ranked(structure.saliency(omega))
        else:
            found[name] = ranked(torch_pruning_saliency(name, net, structure, data))
    return found


def measure(job):
    network, seed, names = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    source, epochs, build = NETWORKS[network]
    data = fashion() if source == "fashion" else load_source(source)
    net = train(build(), data, epochs)
    chosen = torch.randperm(len(data.train_inputs))
    unlabelled = list(data.train_inputs[chosen[:SAMPLES]].split(250))
    polish = list(data.train_inputs[chosen[:POLISHED]].split(100))
    examples = data.test_inputs[:8]
    structure = gm.Structure(net, examples)
    found = {"whole": accuracy(net, data)}
    for name, choose in choices(names, net, structure, data, unlabelled).items():
        for ratio in RATIOS:
            prune = choose(ratio)
            for how, batches in (("cut", None), ("reconstructed", unlabelled)):
                pruned = gm.Structure(copy.deepcopy(net), examples)
                pruned.apply(gm.Plan(prune=prune), reconstruct=batches)
                found[name, how, ratio] = accuracy(pruned.model, data)
                if batches is None:
                    again = recalibrated(pruned.model, unlabelled)
                    found[name, "recalibrated", ratio] = accuracy(again, data)
                elif name == GREEDY:
                    gm.distil(pruned, net, polish, steps=STEPS)
                    found[name, "polished", ratio] = accuracy(pruned.model, data)
    print(f"{network} seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def spread(values):
    around = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{around}"


def table(network, rows):
    names = dict.fromkeys(key[0] for key in rows[0] if key != "whole")
    print(f"\n**{network}**, {spread([row['whole'] for row in rows])} before\n")
    print("| saliency | |", " | ".join(f"{ratio:.0%} removed" for ratio in RATIOS), "|")
    print("|---|---|" + "---|" * len(RATIOS))
    for how in ("cut", "recalibrated", "reconstructed", "polished"):
        for name in (name for name in names if (name, how, RATIOS[0]) in rows[0]):
            cells = [spread([row[name, how, ratio] for row in rows]) for ratio in RATIOS]
            print(f"| {name} | {how} |", " | ".join(cells), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS), action="append")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--choice", action="append", help="part of the name of a choice")
    options = parser.parse_args()
    networks = options.network or [name for name in NETWORKS if name != "fashion"]
    seeds = options.seed or SEEDS
    wanted = options.choice or [""]
    names = tuple(name for name in CHOICES if any(part in name for part in wanted))
    jobs = [(network, seed, names) for network in networks for seed in seeds]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = dict(zip(jobs, pool.map(measure, jobs), strict=True))
    for network in networks:
        table(network, [found[network, seed, names] for seed in seeds])


if __name__ == "__main__":
    main()
