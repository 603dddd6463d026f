"""Reasons why the plain cut by Σ Ω θ² is worse than a random choice on the MLP.

    python experiments/prune_quality/plain_cut.py

Both hidden layers lose the same share of their units, without reconstruction. The table has the
accuracy; the accuracy after only the means, or means and spreads, of the ten logits are restored
(on 1,000 unlabelled inputs; 20 numbers cannot restore what was lost inside); the share of the most
frequent answer; and the rank correlation of the saliency with mean and spread of a unit's output.
"""

import copy
import statistics
import sys

import torch
import torch.nn.functional as F
from study import SAMPLES, SEEDS, accuracy

import growmas as gm
from growmas.data import load_source
from growmas.models.mlp import MLP

RATIOS = (0.5, 0.8, 0.9)
TRAININGS = {"15 epochs": (15, 128), "30 epochs": (30, 128)}


def trained(data, epochs, batch):
    net = MLP((1, 28, 28), [256, 256], [10])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(data.train_inputs)).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(net(data.train_inputs[rows]), data.train_labels[rows]).backward()
            optimizer.step()
    return net.eval()


def consumer(group):
    return next(member.layer for member in group.members if member.side == "in")


@torch.no_grad()
def given_units(net, structure, inputs):
    """Return the outputs of units: group name -> [N, U]."""
    seen = {}
    handles = [
        net.get_submodule(consumer(group)).register_forward_pre_hook(
            lambda module, args, name=name: seen.__setitem__(name, args[0])
        )
        for name, group in structure.groups.items()
    ]
    net(inputs)
    for handle in handles:
        handle.remove()
    return seen


def saliencies(net, structure, inputs):
    ones = {name: torch.ones_like(p) for name, p in net.named_parameters()}
    weights = structure.saliency(ones)  # Σ θ² of the weights that read a unit
    given = given_units(net, structure, inputs)
    found = {
        "Σ Ω θ²": structure.saliency(gm.mas_importance(net, [inputs])),
        "Σ Ω θ², Ω of every output": structure.saliency(
            gm.mas_importance(net, [inputs], function="vector")
        ),
        "mean of its output": {name: h.mean(0) for name, h in given.items()},
        "variance of it · Σ θ²": {name: h.var(0) * weights[name] for name, h in given.items()},
        "Σ θ²": weights,
        "random": {name: torch.rand(len(w)) for name, w in weights.items()},
    }
    return found, given


@torch.no_grad()
def answers(net, whole, data, inputs):
    """Return accuracies: plain, means restored, spreads too; and the share of the top answer."""
    logits, now, was = net(data.test_inputs), net(inputs), whole(inputs)
    centred = logits - now.mean(0)
    spread = was.std(0) / now.std(0).clamp(min=1e-9)
    mended = [centred + was.mean(0), centred * spread + was.mean(0)]
    right = [100 * (m.argmax(1) == data.test_labels).float().mean().item() for m in mended]
    share = 100 * logits.argmax(1).bincount().max().item() / len(logits)
    return accuracy(net, data), *right, share


def rank_correlation(a, b):
    return torch.corrcoef(torch.stack([a.argsort().argsort(), b.argsort().argsort()]).float())[0, 1]


def measure(data, seed, epochs, batch):
    torch.manual_seed(seed)
    net = trained(data, epochs, batch)
    inputs = data.train_inputs[torch.randperm(len(data.train_inputs))[:SAMPLES]]
    structure = gm.Structure(net, data.test_inputs[:8])
    found, given = saliencies(net, structure, inputs)
    rows = {"whole": accuracy(net, data)}
    for name, saliency in found.items():
        rows[name] = [
            statistics.mean(float(rank_correlation(saliency[g], of(h))) for g, h in given.items())
            for of in (lambda h: h.mean(0), lambda h: h.std(0) / h.mean(0).clamp(min=1e-6))
        ]
        for ratio in RATIOS:
            cut = gm.Structure(copy.deepcopy(net), data.test_inputs[:8])
            prune = {
                g: saliency[g].argsort()[: int(ratio * group.width)].tolist()
                for g, group in cut.groups.items()
            }
            cut.apply(gm.Plan(prune=prune))
            rows[name, ratio] = answers(cut.model, net, data, inputs)
    return rows


def main():
    torch.set_num_threads(1)
    data = load_source("mnist5k")
    for training, (epochs, batch) in TRAININGS.items():
        seeds = [measure(data, seed, epochs, batch) for seed in SEEDS]
        whole = statistics.mean(rows["whole"] for rows in seeds)
        print(f"\n**{training}**, {whole:.1f} before; cut / means / means and spreads; commonest\n")
        heads = " | ".join(f"{ratio:.0%} removed" for ratio in RATIOS)
        print(f"| saliency | {heads} | rank by mean | by spread/mean |\n|---|{'---|' * 5}")
        for name in [key for key in seeds[0] if isinstance(key, str) and key != "whole"]:
            cells = []
            for ratio in RATIOS:
                columns = zip(*(rows[name, ratio] for rows in seeds), strict=True)
                cut, means, both, share = (statistics.mean(column) for column in columns)
                cells.append(f"{cut:.0f} / {means:.0f} / {both:.0f}; {share:.0f}%")
            ranks = [statistics.mean(c) for c in zip(*(rows[name] for rows in seeds), strict=True)]
            print("|", " | ".join([name, *cells, *(f"{r:+.2f}" for r in ranks)]), "|")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
