"""CPU time of whole processes: a run of growmas, and a bare loop of the same steps.

    python experiments/run_cost/measure.py [--repeats 5]

Both are run in turn; medians of CPU time (user and system, all threads) and peaks of memory.
"""

import argparse
import sys
from pathlib import Path

from processes import compare, growmas_run, script

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    commands = {
        "import torch": lambda folder: [sys.executable, "-c", "import torch"],
        "bare loop": script(HERE / "bare.py"),
        "growmas run": growmas_run(HERE / "mas.yaml"),
    }
    compare(commands, "bare loop", parser.parse_args().repeats)


if __name__ == "__main__":
    main()
