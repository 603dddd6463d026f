"""CPU time of a task-free step over the number of heads, of which one is in use.

python experiments/heads_cost/measure.py [--steps 100]
"""

import argparse
import time

import torch
from torch import Tensor, nn

import growmas as gm


class Heads(nn.Module):
    """A dense layer and many linear heads."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 32)
        self.heads = nn.ModuleList(nn.Linear(32, 4) for _ in range(heads))

    def forward(self, inputs: Tensor, head: int | None = None) -> Tensor | tuple[Tensor, ...]:
        hidden = torch.relu(self.fc(inputs))
        if head is not None:
            return self.heads[head](hidden)
        return tuple(module(hidden) for module in self.heads)


def milliseconds(heads: int, steps: int, *, consolidated: bool) -> float:
    """Return the CPU time of a step, in milliseconds; the best of five series."""
    torch.manual_seed(0)
    model = Heads(heads)
    structure = gm.Structure(model, torch.rand(4, 20))
    optimizer = torch.optim.Adam(model.parameters())
    learner = gm.TaskFreeLearner(
        structure, optimizer, contexts=heads, forward=lambda model, x, context: model(x, context)
    )
    inputs, labels = torch.rand(16, 20), torch.randint(4, (16,))
    for _ in range(20):
        learner.learn(inputs, labels)
    if consolidated:  # Ω of all heads; that of all but one is 0
        learner._settle(list(learner.memory.recent))
        learner.memory.before.load_state_dict(learner.mas.state_dict())
    series = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(steps):
            learner.learn(inputs, labels)
        series.append((time.process_time() - begun) / steps)
    return 1e3 * min(series)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("heads  before the first plateau, ms  after it, ms")
    for heads in (3, 30, 100, 300):
        before, after = (
            milliseconds(heads, given.steps, consolidated=after) for after in (False, True)
        )
        print(f"{heads:5} {before:33.2f} {after:13.2f}", flush=True)


if __name__ == "__main__":
    main()
