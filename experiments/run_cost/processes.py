"""CPU time and memory of whole processes that are run in turn, as a table on standard output.

Python keeps what it has compiled, in a folder of its own, as it does for an installed package; the
first round, which compiles, is not counted.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

GROWMAS = "import sys; from growmas.cli.program import main; sys.argv[0] = 'growmas'; main()"


def growmas_run(config):
    """Return the function folder -> the command of a run of growmas."""
    return lambda folder: [
        sys.executable, "-c", GROWMAS, "run", str(config), "--out", str(folder / "run"),
    ]  # fmt: skip


def script(path, *arguments):
    """Return the function folder -> the command of a script."""
    return lambda folder: [sys.executable, str(path), *arguments]


def compare(commands, baseline, repeats):
    """Run commands in turn, and print medians of CPU seconds, their ratios, and peaks of memory.

    Args:
        commands: Name -> a function of an empty folder that returns the command.
        baseline: Name of the one that the others are divided by.
        repeats: Rounds that count.
    """
    folder = Path(tempfile.mkdtemp())
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            numbers = measured(command(folder / f"{name} {repeat}"), environment)
            if repeat:
                found[name].append(numbers)
    base = [cpu for cpu, _ in found[baseline]]
    for name, numbers in found.items():
        cpu = statistics.median(each for each, _ in numbers)
        ratio = statistics.median(a / b for (a, _), b in zip(numbers, base, strict=True))
        memory = max(each for _, each in numbers)
        sys.stdout.write(f"{name:14} {cpu:6.2f} CPU s  {ratio:5.2f}×  {memory:5.0f} MiB\n")


def measured(command, environment):
    """Return CPU seconds (user and system, all threads) and the peak of memory in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{command} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
