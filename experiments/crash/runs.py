"""Runs and sweeps that are killed: how they are begun, and what they have come to."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import torch
from kills import Case, Outcome, reports
from torch import nn

from growmas import Plan, Structure
from growmas.checkpoint import read_state
from growmas.config import Experiment
from growmas.data import load_source
from growmas.experiment import run_experiment
from growmas.runs import read_trace
from growmas.runs.observer import Observer, TaskDone
from growmas.sweep import lock, plan_sweep, run_sweep
from growmas.sweep.summary import SweepRun

TIMES = ("seconds", "cpu_seconds", "started", "run_id", "id", "result", "saved")


class Reports(Observer):
    """Observer of a run or a sweep that writes down, elsewhere, what it is told.

    Args:
        folder: Of the run or the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self._file = reports(folder)

    def task_done(self, done: TaskDone) -> None:
        """Write the accuracies of a task."""
        self._write(done.results.accuracy[done.index])

    def begun(self, name: str) -> None:
        """Write nothing."""

    def ended(self, run: SweepRun) -> None:
        """Write the name of a run that is finished."""
        if run.status == "finished":
            self._write(run.name)

    def _write(self, value: object) -> None:
        with self._file.open("a") as file:
            file.write(f"{json.dumps(value)}\n")


def warm() -> None:
    """Load what a run loads when it first needs it; forks are then ten times as fast."""
    load_source("digits")
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters())
    structure = Structure(network, torch.rand(2, 4))
    structure.apply(Plan(grow={"0": 1}), followers=[optimizer])


def run_case(experiment: Experiment) -> Case:
    """Return the case of a run, task-aware or task-free."""

    def work(folder: Path) -> object:
        return run_experiment(experiment, folder, resume=folder.exists(), observer=Reports(folder))

    return Case(lambda folder: lambda: work(folder), outcome, _rows_missing)


def sweep_case(config: str, overrides: list[str]) -> Case:
    """Return the case of a sweep, each of whose runs is a process of its own.

    The runs of a killed sweep save their states and end; a sweep that is resumed waits for them,
    here for longer than the usual ten seconds, since the machine may have much else to do.
    """
    lock._PATIENCE = 120.0

    def work(folder: Path) -> object:
        sweep = plan_sweep(config, overrides, directory=folder)
        runs = run_sweep(sweep, jobs=2, observer=Reports(folder))
        failed = [run for run in runs if run.status != "finished"]
        if failed:
            raise SystemExit(f"{failed[0].name}: {failed[0].message}")
        return None

    def whole(folder: Path) -> Outcome:
        return {path.parent.name: outcome(path.parent) for path in folder.glob("*/metrics.json")}

    return Case(lambda folder: lambda: work(folder), whole, _runs_missing, family=True)


def outcome(folder: Path) -> Outcome:
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


def _reported(folder: Path) -> list[object]:
    file = reports(folder)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _rows_missing(folder: Path) -> list[str]:
    """Return the reported rows of accuracies that are not in `metrics.json`."""
    rows = _reported(folder)
    held = json.loads((folder / "metrics.json").read_text())["accuracy"] if rows else []
    return [f"{folder.name}: {row} was reported and is missing" for row in rows if row not in held]


def _runs_missing(folder: Path) -> list[str]:
    """Return the runs that were reported as finished and are not."""
    names = [str(name) for name in _reported(folder)]
    status = {
        name: json.loads((folder / name / "metrics.json").read_text())["status"] for name in names
    }
    return [
        f"{name} was reported and is {held}" for name, held in status.items() if held != "finished"
    ]
