"""Kills a run again and again, and reads a history while it is written. See README.md.

The run is a small network that grows, is pruned, trained a step and recorded without end; it says
after every step how many are done.
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
    """The run; four steps a task."""
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    x = torch.rand(32, 8)
    structure, mas, done = gm.Structure(net, x[:4]), gm.MAS(net), 0
    optimizer = torch.optim.Adam(net.parameters())
    with gm.TopologyTracker(structure, path) as tracker:
        _say(0)
        for task in range(100_000):
            structure.begin_task(f"task {task}")
            done = _say(done + 1)
            structure.apply(gm.Plan(grow={"0": 3, "2": 3}), followers=[optimizer, mas])
            done = _say(done + 1)
            optimizer.zero_grad()
            (net(x).square().mean() + mas.penalty()).backward()
            optimizer.step()
            mas.consolidate([x])
            least = {
                name: [structure.groups[name].unit_ids[i] for i in values.argsort()[:3]]
                for name, values in structure.saliency(mas.omega).items()
            }
            structure.apply(gm.Plan(prune=least), followers=[optimizer, mas])
            done = _say(done + 1)
            tracker.snapshot(metrics={"accuracy": 0.5}, omega=mas.omega)
            done = _say(done + 1)


def _say(done: int) -> int:
    os.write(1, f"{done}\n".encode())
    return done


def check(path: Path) -> int:
    """Whether what is there is whole; returns the number of steps in it."""
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
    """Kill runs at random moments; raises if a history misses what was reported."""
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
        steps = check(path)  # beside the WAL of the killed process
        assert done <= steps <= done + 1, (done, steps)
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
        assert check(path) == steps
        reported, found = reported + done, found + steps
    print(f"{times} kills: {reported} steps reported as done, {found} in the files, none amiss")


def read(seconds: float, folder: Path) -> None:
    """Two processes read while one writes."""
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
    print(f"{seconds:g} s beside a writer, two readers: {'; '.join(looks)}; no error")


def look(path: Path, seconds: float) -> None:
    """Open, check, close, over and over."""
    end, times, steps = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        now = check(path)
        assert now >= steps
        times, steps = times + 1, now
    print(f"{times} looks at up to {steps} steps")


def _start(target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, TextIO]:
    """The process, and what it says."""
    sys.stdout.flush()
    ear, mouth = os.pipe()
    process = FORK.Process(target=_speak, args=(mouth, target, *arguments))
    process.start()
    os.close(mouth)
    return process, os.fdopen(ear)


def _speak(mouth: int, target: Callable[..., None], *arguments: object) -> None:
    os.dup2(mouth, 1)
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
