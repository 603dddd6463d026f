"""CPU time and memory of whole processes: growmas, Avalanche, and a bare loop of the same steps.

    python experiments/peers/measure.py [--repeats 3] [FOLDER …]

FOLDER holds Avalanche and what it needs, where they are not installed. Programs run in turn; Python
keeps what it has compiled, in a folder of its own, and the first round is not counted.
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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("folders", nargs="*")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    python, config = sys.executable, str(HERE / "naive.yaml")
    commands = {
        "bare loop": lambda n: [python, str(HERE / "bare.py")],
        "growmas run": lambda n: [python, "-c", RUN, "run", config, "--out", str(folder / str(n))],
        "Avalanche": lambda n: [python, str(HERE / "peer.py"), *given.folders],
    }
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = {name: [] for name in commands}
    for repeat in range(given.repeats + 1):
        for name, command in commands.items():
            numbers = measured(command(repeat), environment)
            if repeat:
                found[name].append(numbers)
    bare = [cpu for cpu, _ in found["bare loop"]]
    for name, numbers in found.items():
        cpu = statistics.median(each for each, _ in numbers)
        ratio = statistics.median(a / b for (a, _), b in zip(numbers, bare, strict=True))
        memory = max(each for _, each in numbers)
        sys.stdout.write(f"{name:12} {cpu:6.2f} CPU s  {ratio:5.2f}×  {memory:5.0f} MiB\n")


if __name__ == "__main__":
    main()
