"""The steps of `naive.yaml` in plain torch."""

import sys

import torch
import torch.nn.functional as F
from fashion import BATCH, EPOCHS, RATE, TASKS, tasks
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(256, 2) for _ in range(TASKS))

    def forward(self, x, head):
        return self.heads[head](self.trunk(x))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train, test = tasks("train"), tasks("t10k")
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    row = []
    for task, (x, y) in enumerate(train):
        net.train()
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(y)), BATCH):
                loss = F.cross_entropy(net(x[rows], task), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        net.eval()
        with torch.no_grad():
            row = [
                (net(tx, t).argmax(1) == ty).float().mean().item()
                for t, (tx, ty) in enumerate(test[: task + 1])
            ]
    sys.stdout.write(f"ACC {sum(row) / TASKS:.3f}\n")


if __name__ == "__main__":
    main()
