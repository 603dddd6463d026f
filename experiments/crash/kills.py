"""Kills of runs, at random moments and before every file operation, and what must come of them.

Each attempt is a fork of this process, so that torch is imported once. A hook on Python's audit
events counts the operations on files of the run directory, and kills the process before one of
them, as `kill -9` does.
"""

import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from growmas.checkpoint import read_state
from growmas.config import Experiment
from growmas.experiment import run_experiment
from growmas.runs import read_trace

EVENTS = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
    "shutil.rmtree", "sqlite3.connect", "os.listdir", "os.scandir",
}  # fmt: skip
TIMES = ("seconds", "cpu_seconds", "started", "run_id", "id", "result", "saved")
LIMIT = 120.0
"""Seconds after which an attempt counts as hung."""


def outcome(folder: Path) -> dict[str, object]:
    """Return everything a run has come to; times and ids are left out."""
    metrics = json.loads((folder / "metrics.json").read_text())
    state = read_state(folder / "checkpoint")
    with closing(sqlite3.connect(folder / "history.db")) as database:
        tables: dict[str, object] = {
            table: database.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("units", "layers", "edges", "sizes", "metrics", "importance_data")
        }
        query = "SELECT event, task, kind, reason, cause FROM events"
        tables["events"] = database.execute(query).fetchall()
        tables["tasks"] = database.execute("SELECT task, name FROM tasks").fetchall()
    trace = read_trace(folder) if (folder / "stream.jsonl").is_file() else None
    return {"metrics": flat(metrics), "state": flat(state), "tables": tables, "trace": trace}


def flat(value: object) -> object:
    """Return a value that compares bit for bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [flat(item) for item in value]
    return value


def differing(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Return the parts in which two outcomes differ."""
    return [name for name in one if one[name] != other[name]]


def attempt(work: Callable[[], object], *, delay: float | None = None) -> int:
    """Do some work in a fork, and return its exit code; -9 if it was killed.

    Args:
        work: To do.
        delay: Seconds after which the fork is killed; None leaves it alone.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    until = time.monotonic() + (LIMIT if delay is None else delay)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            if delay is None:
                raise TimeoutError("an attempt hangs")
        time.sleep(0.002)


def killed_before(number: int, folder: Path, work: Callable[[], object]) -> Callable[[], object]:
    """Return work that is killed before its operation `number`, from 1, on a file in a folder."""

    def counting() -> object:
        count, inside, sync = 0, str(folder), os.fsync

        def act() -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, args: tuple[object, ...]) -> None:
            if event in EVENTS and args and str(args[0]).startswith(inside):
                act()

        def counted(handle: int) -> None:
            act()
            sync(handle)

        os.fsync = counted  # type: ignore[assignment]
        sys.addaudithook(hook)
        return work()

    return counting


def run(experiment: Experiment, folder: Path) -> Callable[[], object]:
    """Return the work of a run, begun or resumed."""
    return lambda: run_experiment(experiment, folder, resume=folder.exists())


def kill_at_every_operation(
    experiment: Experiment, root: Path, whole: dict[str, object], *, every: int = 1, first: int = 1
) -> tuple[int, list[str]]:
    """Kill a run before each of its file operations in turn, resume it, and compare.

    Args:
        experiment: To run.
        root: Of the run directories.
        whole: Outcome of the run that was not killed.
        every: Only each so many operations.
        first: The first operation.

    Returns:
        Number of kills, and what went wrong.
    """
    kills, wrong, number = 0, [], first
    while True:
        folder = root / f"operation-{number}"
        code = attempt(killed_before(number, folder, run(experiment, folder)))
        if code == 0:
            return kills, wrong
        kills += code == -signal.SIGKILL
        again = attempt(killed_before(number // 2 + 1, folder, run(experiment, folder)))
        kills += again == -signal.SIGKILL
        wrong += _finished(experiment, folder, whole, f"operation {number}")
        number += every


def kill_at_random(
    experiment: Experiment, root: Path, whole: dict[str, object], *, times: int, seconds: float
) -> tuple[int, list[str]]:
    """Kill a run at random moments, over and over, until it is done, and compare.

    Args:
        experiment: To run.
        root: Of the run directories.
        whole: Outcome of the run that was not killed.
        times: Number of kills.
        seconds: The longest time that an attempt is left alone.
    """
    kills, wrong, draw, number = 0, [], random.Random(0), 0
    while kills < times:
        number += 1
        folder = root / f"random-{number}"
        for _ in range(20):
            code = attempt(run(experiment, folder), delay=draw.uniform(0.0, seconds))
            kills += code == -signal.SIGKILL
            if code != -signal.SIGKILL:
                break
        wrong += _finished(experiment, folder, whole, f"random {number}")
    return kills, wrong


def _finished(
    experiment: Experiment, folder: Path, whole: dict[str, object], name: str
) -> list[str]:
    """Resume a run to its end, and return what differs."""
    code = attempt(run(experiment, folder))
    if code:
        return [f"{name}: exit code {code}"]
    return [f"{name}: {part} differs" for part in differing(outcome(folder), whole)]
