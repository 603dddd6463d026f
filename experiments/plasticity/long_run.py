"""A long run with replacements: rows of the history, and the time of a step, from first to last.

python experiments/plasticity/long_run.py                 # 100,000 steps, some CPU minutes
"""

import argparse
import sqlite3
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import growmas as gm

PARTS = 10


def main() -> None:
    """Learn, and print a line for each tenth of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )
    structure = gm.Structure(net, torch.rand(4, 16))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    plasticity = gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility(rate=1e-3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.db"
        with gm.TopologyTracker(structure, path) as tracker:
            structure.begin_task("stream")
            for part in range(PARTS):
                start = time.process_time()
                for step in range(steps // PARTS):
                    if step % 1000 == 0:
                        x, y = torch.rand(1000, 16), torch.randint(4, (1000,))
                    rows = slice(step % 100 * 8, step % 100 * 8 + 8)
                    optimizer.zero_grad()
                    F.cross_entropy(net(x[rows]), y[rows]).backward()
                    optimizer.step()
                    plasticity.step()
                spent = time.process_time() - start
                tracker.snapshot()
                print(part + 1, round(spent / (steps // PARTS) * 1000, 4), "ms a step,",
                      plasticity.replaced, "replaced,", counted(path), flush=True)  # fmt: skip


def counted(path: Path) -> str:
    """Return the number of rows of the largest tables, and the size of the file."""
    with sqlite3.connect(path) as file:
        names = [
            name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        rows = {name: file.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    largest = sorted(rows.items(), key=lambda each: -each[1])[:3]
    return f"{dict(largest)}, {path.stat().st_size // 1000} kB"


if __name__ == "__main__":
    main()
