"""Accuracy after units are removed, without labels and without retraining.

    python experiments/prune_quality/study.py [--network mlp|convnet|resnet] [--workers 2]

Every hidden group loses the same share of its units, chosen by saliencies of Torch-Pruning 1.6.1
and by growmas's Σ Ω θ². Each is shown as a plain cut and with growmas's reconstruction, which takes
unlabelled training inputs. Taylor and Hessian take the labels of the training data.
"""

import argparse
import copy
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn

import growmas as gm
from growmas.data import load_source
from growmas.models.convnet import ConvNet
from growmas.models.mlp import MLP

RATIOS = (0.5, 0.7, 0.8, 0.9)
SEEDS = (1, 2, 3, 4, 5)
SAMPLES = 1000  # unlabelled inputs for importance and reconstruction
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


NETWORKS = {
    "mlp": ("mnist5k", 15, lambda: MLP((1, 28, 28), [256, 256], [10])),
    "convnet": ("mnist5k", 8, lambda: ConvNet((1, 28, 28), [16, 32], 128, [10])),
    "resnet": ("digits", 15, resnet),
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


def measure(job):
    network, seed = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    source, epochs, build = NETWORKS[network]
    data = load_source(source)
    net = train(build(), data, epochs)
    chosen = torch.randperm(len(data.train_inputs))[:SAMPLES]
    unlabelled = data.train_inputs[chosen].split(250)
    examples = data.test_inputs[:8]
    structure = gm.Structure(net, examples)
    omega = gm.mas_importance(net, unlabelled)
    saliencies = {
        "Σ Ω θ² (growmas)": structure.saliency(omega),
        **{
            name: torch_pruning_saliency(name, net, structure, data)
            for name in ("magnitude", "LAMP", "Taylor", "Hessian", "random")
        },
    }
    found = {"whole": accuracy(net, data)}
    for name, saliency in saliencies.items():
        for ratio in RATIOS:
            prune = {
                group.name: saliency[group.name].argsort()[: int(ratio * group.width)].tolist()
                for group in structure.groups.values()
            }
            for how, batches in (("cut", None), ("reconstructed", unlabelled)):
                pruned = gm.Structure(copy.deepcopy(net), examples)
                pruned.apply(gm.Plan(prune=prune), reconstruct=batches)
                found[name, how, ratio] = accuracy(pruned.model, data)
    print(f"{network} seed {seed} done", file=sys.stderr, flush=True)
    return found


def spread(values):
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def table(network, rows):
    names = dict.fromkeys(key[0] for key in rows[0] if key != "whole")
    print(f"\n**{network}**, {spread([row['whole'] for row in rows])} before\n")
    print("| saliency | |", " | ".join(f"{ratio:.0%} removed" for ratio in RATIOS), "|")
    print("|---|---|" + "---|" * len(RATIOS))
    for how in ("cut", "reconstructed"):
        for name in names:
            cells = [spread([row[name, how, ratio] for row in rows]) for ratio in RATIOS]
            print(f"| {name} | {how} |", " | ".join(cells), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(NETWORKS), action="append")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    networks = options.network or list(NETWORKS)
    jobs = [(network, seed) for network in networks for seed in SEEDS]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = dict(zip(jobs, pool.map(measure, jobs), strict=True))
    for network in networks:
        table(network, [found[network, seed] for seed in SEEDS])


if __name__ == "__main__":
    main()
