"""Kills a run again and again, and reads a history while it is written. See README.md.

The run is a small network that grows, is pruned, trained a step and recorded without end; it says
after every step how many are done.
"""

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from growmas.history import TopologyHistory


def write(path: Path) -> None:
    """The run; four steps a task."""
    import torch
    from torch import nn

    import growmas as gm

    torch.set_num_threads(1)
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
        with _start("write", path) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(choice.uniform(0, 1))
            run.kill()
            done = int([0, *run.communicate()[0].split()][-1])
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
    with _start("write", path) as run:
        assert run.stdout is not None
        run.stdout.readline()
        readers = [_start("look", path, seconds) for _ in range(2)]
        said = [reader.communicate()[0].strip() for reader in readers]
        run.kill()
    assert [reader.returncode for reader in readers] == [0, 0], said
    print(f"{seconds:g} s beside a writer, two readers: {'; '.join(said)}; no error")


def look(path: Path, seconds: float) -> None:
    """Open, check, close, over and over."""
    end, times, steps = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        now = check(path)
        assert now >= steps
        times, steps = times + 1, now
    print(f"{times} looks at up to {steps} steps")


def _start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main() -> None:
    if sys.argv[1:2] == ["write"]:
        write(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["look"]:
        look(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--kills", type=int, default=50)
        parser.add_argument("--seconds", type=float, default=60)
        options = parser.parse_args()
        with tempfile.TemporaryDirectory() as folder:
            kill(options.kills, Path(folder))
            read(options.seconds, Path(folder))


if __name__ == "__main__":
    main()
