"""The start of grown units, in pairs or with zero columns: Adam and SGD, old weights frozen or not.

python experiments/plasticity/start.py                    # some CPU minutes

A network learns the digits 0 to 4 of MNIST-5k, grows by half, and learns 5 to 9 with a head of the
same ten outputs. With frozen old weights, only entries of the new units and the head are learnt.
"""

import argparse
import statistics

import torch
import torch.nn.functional as F
from networks import NETWORKS
from torch import Tensor, nn

import growmas as gm
from growmas.data.sources import load_source

STEPS, BATCH = 400, 16


def main() -> None:
    """Print the accuracy on the new digits early and late, for each start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--models", nargs="+", default=["mlp", "conv", "normed"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for model in given.models:
        for optimizer in ("adam", "sgd"):
            for frozen in (False, True):
                rows = {
                    init: [
                        learnt(model, optimizer, init, seed, frozen=frozen) for seed in given.seeds
                    ]
                    for init in ("zero_out", "paired")
                }
                gains = [
                    [b - a for a, b in zip(before, after, strict=True)]
                    for before, after in zip(rows["zero_out"], rows["paired"], strict=True)
                ]
                means = {i: [round(statistics.mean(c), 4) for c in zip(*r, strict=True)]
                         for i, r in rows.items()}  # fmt: skip
                apart = [
                    (round(statistics.mean(each), 4), round(interval(each), 4))
                    for each in zip(*gains, strict=True)
                ]
                print(
                    model,
                    optimizer,
                    "frozen" if frozen else "free",
                    means,
                    "gain",
                    apart,
                    flush=True,
                )


def interval(values: tuple[float, ...]) -> float:
    """Return half the width of a 95% interval of the mean, by Student's t."""
    quantile = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}[len(values)]
    return quantile * statistics.stdev(values) / len(values) ** 0.5


def learnt(model: str, name: str, init: str, seed: int, *, frozen: bool) -> tuple[float, ...]:
    """Return the accuracy on test images of the new digits after 50, 100 and 400 steps.

    Args:
        model: Name of the network.
        name: "adam" or "sgd".
        init: Start of the grown units.
        seed: Of network and batches.
        frozen: True learns only entries of the new units, and the head.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = NETWORKS[model]()
    source = load_source("mnist5k")
    x, y = source.train_inputs.flatten(1), source.train_labels
    structure = gm.Structure(net, x[:4])
    optimizer = made(name, net)
    old, new = (y < 5).nonzero().squeeze(1), (y >= 5).nonzero().squeeze(1)
    structure.begin_task("old")
    steps(net, optimizer, x[old], y[old], STEPS, generator)
    head = [*net.state_dict()][-1].rpartition(".")[0]
    protection = gm.BirthProtection(structure, exclude=[f"{head}.*"])
    protection.freeze([x[old][:200]])
    structure.begin_task("new")
    warmup = [gm.Warmup(net, optimizer)] if name == "adam" else []
    plan = gm.Plan(grow={group: each.width // 2 for group, each in structure.groups.items()})
    structure.apply(plan, followers=[optimizer, *warmup], init=init)
    if frozen:
        protection.guard(optimizer)
    test, labels = source.test_inputs.flatten(1), source.test_labels
    found = []
    for count in (50, 50, STEPS - 100):
        steps(net, optimizer, x[new], y[new], count, generator)
        net.eval()
        with torch.no_grad():
            right = net(test[labels >= 5]).argmax(1) == labels[labels >= 5]
        net.train()
        found.append(float(right.float().mean()))
    return tuple(found)


def made(name: str, net: nn.Module) -> torch.optim.Optimizer:
    """Return Adam, or SGD with momentum."""
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=1e-3)
    return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)


def steps(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    count: int,
    generator: torch.Generator,
) -> None:
    """Learn some batches."""
    for _ in range(count):
        batch = torch.randint(len(x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
