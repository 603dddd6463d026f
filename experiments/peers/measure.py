"""CPU time and memory of whole processes: growmas, Avalanche, and a bare loop of the same steps.

    python experiments/peers/measure.py [--repeats 3] [FOLDER …]

FOLDER holds Avalanche and what it needs, where they are not installed. Programs run in turn, see
experiments/run_cost/processes.py.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "run_cost"))

from processes import compare, growmas_run, script  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("folders", nargs="*")
    given = parser.parse_args()
    commands = {
        "bare loop": script(HERE / "bare.py"),
        "growmas run": growmas_run(HERE / "naive.yaml"),
        "Avalanche": script(HERE / "peer.py", *given.folders),
    }
    compare(commands, "bare loop", given.repeats)


if __name__ == "__main__":
    main()
