"""CPU time of whole processes: a run of growmas, and a bare loop of the same steps.

    python experiments/run_cost/measure.py [--repeats 5]

Both are run in turn; medians of CPU time (user and system, all threads) and peaks of memory. Python
keeps what it has compiled, in a folder of its own, as it does for an installed package; the first
round, which compiles, is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
RUN = "import sys; from growmas.cli.program import main; sys.argv[0] = 'growmas'; main()"


def measured(command, environment):
    """Return CPU seconds and the peak of memory in MiB of a process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{command} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    folder = Path(tempfile.mkdtemp())
    commands = {
        "import torch": lambda n: [sys.executable, "-c", "import torch"],
        "bare loop": lambda n: [sys.executable, str(HERE / "bare.py")],
        "growmas run": lambda n: [
            sys.executable, "-c", RUN, "run", str(HERE / "mas.yaml"), "--out", str(folder / str(n)),
        ],
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            numbers = measured(command(repeat), environment)
            if repeat:
                found[name].append(numbers)
    bare = [cpu for cpu, _ in found["bare loop"]]
    for name, numbers in found.items():
        cpu = statistics.median(each for each, _ in numbers)
        ratio = statistics.median(a / b for (a, _), b in zip(numbers, bare, strict=True))
        memory = max(each for _, each in numbers)
        sys.stdout.write(f"{name:14} {cpu:6.2f} CPU s  {ratio:5.2f}×  {memory:5.0f} MiB\n")


if __name__ == "__main__":
    main()
