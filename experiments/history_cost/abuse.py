"""Robustness of a history: runs are killed again and again, and files are read during a write.

The run is a small network that grows, is pruned, trained for a step and recorded, without end; it
prints the number of steps done after each one. README.md has the results.
"""

import argparse
import multiprocessing
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

import torch
from torch import nn

import growmas as gm
from growmas.history import TopologyHistory

FORK = multiprocessing.get_context("fork")  # a process of its own without loading torch again


def write(path: Path) -> None:
    """Run without end, four steps per task."""
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    x = torch.rand(32, 8)
    structure, mas, done = gm.Structure(net, x[:4]), gm.MAS(net), 0
    optimizer = torch.optim.Adam(net.parameters())
    with gm.TopologyTracker(structure, path) as tracker:
        _report(0)
        for task in range(100_000):
            structure.begin_task(f"task {task}")
            done = _report(done + 1)
            structure.apply(gm.Plan(grow={"0": 3, "2": 3}), followers=[optimizer, mas])
            done = _report(done + 1)
            optimizer.zero_grad()
            (net(x).square().mean() + mas.penalty()).backward()
            optimizer.step()
            mas.consolidate([x])
            least = {
                name: [structure.groups[name].unit_ids[i] for i in values.argsort()[:3]]
                for name, values in structure.saliency(mas.omega).items()
            }
            structure.apply(gm.Plan(prune=least), followers=[optimizer, mas])
            done = _report(done + 1)
            tracker.snapshot(metrics={"accuracy": 0.5}, omega=mas.omega)
            done = _report(done + 1)


def _report(done: int) -> int:
    os.write(1, f"{done}\n".encode())
    return done


def check(path: Path) -> int:
    """Check that the history is complete; return the number of steps in it."""
    with TopologyHistory(path) as history, history.frozen():
        events, tasks, widths = history.log(), history.tasks(), history.widths()
        assert [event.kind for event in events] == (
            ["begin", "edit", "edit", "snapshot"] * len(tasks)
        )[: len(events)]
        for task in tasks:
            assert {by[task.name] for by in widths.values()} <= {64, 67}
        for task in [task for task in tasks if task.finished][-3:]:
            for group, values in history.importance(task.index).items():
                assert tuple(values) == history.units(task.index)[group]
        return len(events)


def kill(times: int, folder: Path) -> None:
    """Kill runs at random moments; fail if a history lacks a step that was reported."""
    choice, reported, found = random.Random(0), 0, 0
    for number in range(times):
        path = folder / f"killed {number}.db"
        run, said = _start(write, path)
        with said:
            said.readline()
            time.sleep(choice.uniform(0, 1))
            run.kill()
            run.join()
            done = int([0, *said.read().split()][-1])
        steps = check(path)  # with the -wal file of the killed process
        assert done <= steps <= done + 1, (done, steps)
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
        assert check(path) == steps
        reported, found = reported + done, found + steps
    print(f"{times} kills: {reported} steps reported as done, {found} in the files, none missing")


def read(seconds: float, folder: Path) -> None:
    """Let two processes read while one writes."""
    path = folder / "read.db"
    run, said = _start(write, path)
    said.readline()
    readers = [_start(look, path, seconds) for _ in range(2)]
    looks = [words.read().strip() for _, words in readers]
    for reader, words in readers:
        reader.join()
        words.close()
        assert reader.exitcode == 0, looks
    run.kill()
    run.join()
    said.close()
    print(f"{seconds:g} s during a write, two readers: {'; '.join(looks)}; no error")


def look(path: Path, seconds: float) -> None:
    """Open, check and close a history again and again."""
    end, times, steps = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        now = check(path)
        assert now >= steps
        times, steps = times + 1, now
    print(f"{times} looks at up to {steps} steps")


def _start(target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, TextIO]:
    """Return a new process and its output."""
    sys.stdout.flush()
    output, end = os.pipe()
    process = FORK.Process(target=_run, args=(end, target, *arguments))
    process.start()
    os.close(end)
    return process, os.fdopen(output)


def _run(end: int, target: Callable[..., None], *arguments: object) -> None:
    os.dup2(end, 1)
    target(*arguments)
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kill(options.kills, Path(folder))
        read(options.seconds, Path(folder))


if __name__ == "__main__":
    main()
