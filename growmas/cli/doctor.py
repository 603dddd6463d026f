"""`growmas doctor`: checks the installation, and says how to repair it."""

import os
import platform
import re
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from growmas.errors import RunError
from growmas.runs.finding import find_directory
from growmas.runs.health import RUN_FILES, Finding, check_run


def examine() -> int:
    """Print all findings; return 1 if something growmas needs is missing, else 0."""
    return _printed([*_machine(), *_packages(), _torch()])


def examine_run(name: str, root: Path) -> int:
    """Print the state of the files of a run; return 1 if one is damaged, else 0."""
    folder = find_directory(name, root)
    if not any(os.path.lexists(folder / each) for each in RUN_FILES):
        raise RunError(
            f"{name} is not a run directory: it has none of {', '.join(RUN_FILES)}; growmas ls "
            "lists the runs there are"
        )
    return _printed(check_run(folder))


def _printed(findings: Sequence[Finding]) -> int:
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "state", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(finding.subject, finding.state, finding.text)
    Console(highlight=False).print(table)
    return int(any(finding.state in ("missing", "damaged") for finding in findings))


def _machine() -> Iterator[Finding]:
    yield Finding("python", "ok", platform.python_version())
    yield Finding("cores", "ok", str(os.cpu_count()))
    yield Finding("sqlite", "ok", sqlite3.sqlite_version)


def _packages() -> Iterator[Finding]:
    """Check every package that growmas declares; those of an extra are optional."""
    for requirement in requires("growmas") or ():
        wanted, _, marker = requirement.partition(";")
        name = re.split(r"[^A-Za-z0-9._-]", wanted, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)", marker)
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            package = f"growmas[{extra[1]}]" if extra else wanted.strip()
            yield Finding(name, "absent" if extra else "missing", f"pip install '{package}'")


def _torch() -> Finding:
    if find_spec("torch") is None:
        return Finding("devices", "missing", "torch is not installed")
    import torch

    devices = [f"cpu ({torch.get_num_threads()} threads)"]
    devices += [
        f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())
    ]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return Finding("devices", "ok", ", ".join(devices))
