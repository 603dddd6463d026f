"""Accuracy after units are removed, without labels and without retraining.

    python experiments/prune_quality/study.py [--network resnet ...] [--seed 1 ...]
        [--choice greedy ...] [--how reconstructed ...] [--left 0.1 ...]
    python experiments/prune_quality/study.py --table

Every group loses as many units with every choice: saliencies of Torch-Pruning 1.6.1, growmas's
Σ Ω θ², or the greedy `Structure.select`. Each is shown as a plain cut, with norms recalibrated,
reconstructed from batches and from statistics, and after 400 steps of distillation; all take the
same unlabelled training inputs. Taylor and Hessian take labels of 256. Results go to
`results.jsonl`, one line each; a line that is there is not made again.
"""

import argparse
import copy
import json
import statistics
import time
from pathlib import Path

import torch
import torch_pruning as tp
from networks import SUBJECTS, train, trained
from torch import nn

import growmas as gm

RESULTS = Path(__file__).with_name("results.jsonl")
SEEDS = (1, 2, 3, 4, 5)
SAMPLES = 1000  # unlabelled inputs for importance, choice and repair
STEPS = 400  # of distillation
POLISHED = 4000  # unlabelled inputs for it
EPOCH_RATE = 5e-4  # of Adam, in the epoch after the edit
RATES = {"polished": 3e-3, "polished at rate 0.001": 1e-3, "no labels": EPOCH_RATE}
FROM_REPAIRED = (*RATES, "labels")
LABELLED = 256  # samples whose gradients Taylor and Hessian take
GREEDY, OMEGA = "greedy (growmas)", "Σ Ω θ² (growmas)"
CHOICES = (GREEDY, OMEGA, "magnitude", "LAMP", "Taylor", "Hessian", "random")
EPOCH = {
    "labels": "reconstructed, one epoch with labels",
    "no labels": "reconstructed, one epoch without",
    "cut, labels": "cut, one epoch with labels",
}
HOW = ("cut", "recalibrated", "reconstructed", "statistics", *list(RATES)[:2], *EPOCH)


@torch.no_grad()
def accuracy(net, data):
    net.to(memory_format=torch.channels_last)
    parts = zip(data.test_inputs.split(250), data.test_labels.split(250), strict=True)
    right = sum((net(x).argmax(1) == y).sum().item() for x, y in parts)
    return 100 * right / len(data.test_labels)


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
    losses = nn.functional.cross_entropy(
        net(data.train_inputs[rows]), data.train_labels[rows], reduction="none"
    )
    if name == "Taylor":
        losses.mean().backward()
    if name == "Hessian":  # its own accumulate_grad (1.6.1) keeps the last sample alone
        losses.mean().backward(retain_graph=True)  # it overwrites gradients, so there must be some
        squares = {p: torch.zeros_like(p) for p in net.parameters() if p.grad is not None}
        for loss in losses:
            gradients = torch.autograd.grad(loss, list(squares), retain_graph=True)
            for parameter, gradient in zip(squares, gradients, strict=True):
                squares[parameter] += gradient.square()
        importance._accu_grad = squares
        importance._counter = dict.fromkeys(squares, LABELLED)
    graph = tp.DependencyGraph().build_dependency(net, structure.example_inputs)
    found = {}
    for group in structure.groups.values():
        try:
            root = net.get_submodule(group.name)
        except AttributeError:  # heads: Torch-Pruning has no group of its own for them
            if name == "magnitude":
                ones = {key: torch.ones_like(value) for key, value in net.named_parameters()}
                found[group.name] = structure.saliency(ones)[group.name]  # Σ θ²
            continue
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


class Remembered(nn.Module):
    """Teacher whose outputs for a batch are computed once."""

    def __init__(self, net):
        super().__init__()
        self.net, self._known = net, {}

    def forward(self, batch):
        """Return the outputs for a batch, which has to stay in memory."""
        if batch.data_ptr() not in self._known:
            self._known[batch.data_ptr()] = self.net(batch)
        return self._known[batch.data_ptr()]


class Case:
    """One trained network, with what can be done to it."""

    def __init__(self, name, seed):
        self.subject = SUBJECTS[name]
        self.net, self.data = trained(name, seed)
        order = torch.randperm(len(self.data.train_inputs))
        self.unlabelled = list(self.data.train_inputs[order[:SAMPLES]].split(250))
        self.polish = list(self.data.train_inputs[order[:POLISHED]].split(100))
        self.examples = self.data.test_inputs[:8]
        self.structure = gm.Structure(self.net, self.examples)
        self.teacher = Remembered(self.net)
        self._greedy, self._saliency, self._last = {}, {}, (None, None)

    def greedy(self, left):
        """Return the greedy plan, which also says how many units each group loses."""
        if left not in self._greedy:
            wanted = {"ratio": 1 - left} if self.subject.units else {"flops": left}
            self._greedy[left] = self.structure.select(self.unlabelled, **wanted)
        return self._greedy[left]

    def prune(self, choice, left):
        """Return the units to remove, or None if the choice does not know the groups."""
        plan = self.greedy(left)
        if choice == GREEDY:
            return dict(plan.prune)
        if choice not in self._saliency:
            self._saliency[choice] = (
                self.structure.saliency(gm.mas_importance(self.net, self.unlabelled))
                if choice == OMEGA
                else torch_pruning_saliency(choice, self.net, self.structure, self.data)
            )
        saliency = self._saliency[choice]
        if not plan.prune.keys() <= saliency.keys():
            return None
        return {
            name: [
                self.structure.groups[name].unit_ids[index]
                for index in saliency[name].argsort()[: len(units)].tolist()
            ]
            for name, units in plan.prune.items()
        }

    def repaired(self, prune, how):
        """Return the structure after a cut and a repair, a fresh copy."""
        if self._last[0] != (prune, how):
            structure = gm.Structure(copy.deepcopy(self.net), self.examples)
            source = self.unlabelled if how == "reconstructed" else None
            if how == "statistics":
                source = gm.ActivationStatistics(structure, tolerance=float("inf"))
                source.update(self.unlabelled)
            structure.apply(gm.Plan(prune=prune), reconstruct=source)
            self._last = (prune, how), structure.model
        return copy.deepcopy(self._last[1])

    def pruned(self, prune, how):
        """Return the network after a cut and what follows it."""
        first = {"recalibrated": "cut", "cut, labels": "cut"}.get(how, how)
        net = self.repaired(prune, "reconstructed" if how in FROM_REPAIRED else first)
        if how == "recalibrated":
            return recalibrated(net, self.unlabelled)
        if how in ("labels", "cut, labels"):
            return train(net, self.data, 1, lr=EPOCH_RATE)
        if how in RATES:
            net.to(memory_format=torch.channels_last)
            epoch = how == "no labels"
            batches = list(self.data.train_inputs.split(128)) if epoch else self.polish
            teacher = self.net if epoch else self.teacher
            steps = len(batches) if epoch else STEPS
            gm.distil(net, teacher, batches, steps=steps, lr=RATES[how])
        return net.eval()


def measure(name, seed, choices, how, lefts):
    """Measure what is not measured yet of one network and seed."""
    known = {(r["choice"], r["how"], r["left"]) for r in lines() if of(r, name, seed)}
    wanted = [
        (choice, step, left)
        for left in SUBJECTS[name].left
        if not lefts or left in lefts
        for choice in choices
        for step in how
        if {"cut, labels": "magnitude"}.get(step, GREEDY) == choice or step not in EPOCH
    ]
    if all(each in known for each in wanted):
        return
    case = Case(name, seed)
    if ("whole", "", 1.0) not in known:
        write(network=name, seed=seed, choice="whole", how="", left=1.0,
              accuracy=accuracy(case.net, case.data))  # fmt: skip
    for choice, step, left in wanted:
        if (choice, step, left) in known:
            continue
        torch.manual_seed(seed)
        prune = case.prune(choice, left)
        start = time.process_time()
        found = None if prune is None else accuracy(case.pruned(prune, step), case.data)
        write(network=name, seed=seed, choice=choice, how=step, left=left, accuracy=found,
              seconds=round(time.process_time() - start, 1))  # fmt: skip


def of(row, name, seed):
    return row["network"] == name and row["seed"] == seed


def lines():
    return [json.loads(line) for line in RESULTS.open()] if RESULTS.exists() else []


def write(**row):
    with RESULTS.open("a") as file:
        print(json.dumps(row, ensure_ascii=False), file=file)


def spread(values):
    if not values or None in values:
        return ""
    around = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{around} ({len(values)})"


def table(name, rows):
    """Print the points lost, mean and standard deviation over seeds, and their number."""
    whole = {row["seed"]: row["accuracy"] for row in rows if row["choice"] == "whole"}
    subject = SUBJECTS[name]
    kind = "units" if subject.units else "FLOPs"
    print(f"\n**{name}**, {spread(list(whole.values()))} before; points lost\n")
    print("| choice | |", " | ".join(f"{left:.0%} of {kind} left" for left in subject.left), "|")
    print("|---|---|" + "---|" * len(subject.left))
    for how in HOW:
        for choice in CHOICES:
            lost = {left: [] for left in subject.left}
            for row in rows:
                if (row["choice"], row["how"]) == (choice, how) and row["left"] in lost:
                    lost[row["left"]].append(
                        None if row["accuracy"] is None else whole[row["seed"]] - row["accuracy"]
                    )
            if any(lost.values()):
                cells = " | ".join(spread(values) for values in lost.values())
                print(f"| {choice} | {EPOCH.get(how, how)} | {cells} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(SUBJECTS), action="append")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--choice", action="append", help="part of the name of a choice")
    parser.add_argument("--how", choices=HOW, action="append")
    parser.add_argument("--left", type=float, action="append", help="such as 0.1")
    parser.add_argument("--table", action="store_true", help="write the tables of what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = options.choice or [""]
    choices = [name for name in CHOICES if any(part in name for part in wanted)]
    names = options.network or list(SUBJECTS)
    for seed in [] if options.table else options.seed or SEEDS:
        for name in names:
            measure(name, seed, choices, options.how or HOW, options.left)
    for name in names:
        rows = [row for row in lines() if row["network"] == name]
        if rows:
            table(name, rows)


if __name__ == "__main__":
    main()
