"""Processes for the robustness tests: `write PATH` prints the number of steps after each one,
`read PATH SECONDS` checks the history again and again."""

import os
import sys
import time
from pathlib import Path

from fake_structure import FakeStructure

from growmas.history import TopologyHistory, TopologyTracker


def write(path: Path) -> None:
    """Begin tasks without end, grow and prune, snapshot; print a line after each step."""
    structure = FakeStructure({"fc1": 60, "fc2": 40})
    done = 0
    with TopologyTracker(structure, path) as tracker:
        _say(done - 1)
        for task in range(100_000):
            structure.begin_task(f"task {task}")
            done = _say(done)
            pruned = {name: list(group.unit_ids[:5]) for name, group in structure.groups.items()}
            structure.edit(grow={"fc1": 5, "fc2": 5}, prune=pruned, reason="swap")
            done = _say(done)
            tracker.snapshot(metrics={"accuracy": 0.5}, omega={"fc1": 1.0, "fc2": 2.0})
            done = _say(done)


def _say(done: int) -> int:
    os.write(1, f"{done + 1}\n".encode())
    return done + 1


def read(path: Path, seconds: float) -> None:
    """Open, check and close again and again; print how often, and the number of steps found."""
    end, times, steps = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        with TopologyHistory(path) as history:
            steps = check(history, at_least=steps)
        times += 1
    sys.stdout.write(f"{times} {steps}\n")


def check(history: TopologyHistory, *, at_least: int) -> int:
    """Check that the history is complete; return the number of steps written."""
    with history.frozen():
        steps, tasks = len(history.log()), history.tasks()
        assert steps >= at_least
        events = {}
        for event in history.log():
            events.setdefault(event.task, []).append(event.kind)
        for task in tasks[:-1]:
            assert events[task.name] == ["begin", "edit", "snapshot"]
        assert {tuple(set(by.values())) for by in history.widths().values()} <= {(60,), (40,)}
        assert len(history.units()["fc1"]) == 60
        for task in tasks[-3:]:
            assert (task.finished is None) == ("snapshot" not in events.get(task.name, ()))
            if task.finished:
                values = history.importance(task.index)["fc1"]
                assert list(values) == list(history.units(task.index)["fc1"])
                assert list(values.values()) == [float(unit) for unit in values]
    return steps


if __name__ == "__main__":
    action, path, *rest = sys.argv[1:]
    write(Path(path)) if action == "write" else read(Path(path), float(rest[0]))
