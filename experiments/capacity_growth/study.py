"""The study: does growing help when the task is unknown, on a budget of parameters?

    python experiments/capacity_growth/study.py [--only TITLE …] [--out results.jsonl]

Every method gets six settings to choose from, compared on seed 0 on a fifth of the training data;
with the best one it learns all of the training data on seeds 1 to 5. Each finished run adds a line
to the results, so that a stopped study continues where it was.
"""

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from ablation import ABLATION, VIEWS_OFF
from cases import SEEDS, STUDIES

from growmas.config import Experiment
from growmas.data import hold_out, load_source, register_source
from growmas.experiment import run_experiment
from growmas.metrics import average_accuracy, forgetting
from growmas.structure import Structure

HERE = Path(__file__).parent
HELD_OUT = "_held_out"


def register_held_out(name):
    """Register a source of training data only: a fifth of it takes the place of the test data."""

    def load():
        whole = load_source(name)
        return hold_out(name + HELD_OUT, whole.train_inputs, whole.train_labels, whole.classes)

    register_source(name + HELD_OUT, load)


def experiment_of(study, case, setting, seed, *, tuning):
    values = {
        "name": "study",
        "seed": seed,
        "stream": dict(study.stream),
        "model": dict(case.model),
        "method": dict(case.config),
        "training": {"learning_rate": 0.003, **study.training},
    }
    for key, value in {**setting, **case.fixed}.items():
        record, _, name = key.partition(".")
        if name:
            values[record][name] = value
        else:
            values[record] = {**value}
    stream = values["stream"]
    if tuning and "sources" in stream:
        stream["sources"] = [name + HELD_OUT for name in stream["sources"]]
    elif tuning:
        stream["source"] += HELD_OUT
    return Experiment.model_validate(values)


def measure(experiment, *, views=True):
    off = patch.object(Structure, "view", lambda self, task: nullcontext(self.model))
    with tempfile.TemporaryDirectory() as folder, nullcontext() if views else off:
        results = run_experiment(experiment, Path(folder) / "run")
    return {
        "accuracy": average_accuracy(results.accuracy),
        "forgetting": forgetting(results.accuracy),
        "matrix": results.accuracy,
        "tasks": results.tasks,
        "parameters": results.parameters,
        "context": results.context_size,
        "cpu": results.cpu_seconds,
    }


class Ledger:
    """The finished runs, in a file with one line for each."""

    def __init__(self, path):
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def run(self, study, case, setting, seed, *, tuning=False):
        key = {
            "study": study.title, "method": case.method, "setting": setting, "seed": seed,
            "tuning": tuning,
        }  # fmt: skip
        for row in self.rows:
            if all(row[name] == value for name, value in key.items()):
                return row
        experiment = experiment_of(study, case, setting, seed, tuning=tuning)
        row = {**key, **measure(experiment, views=case.method not in VIEWS_OFF)}
        self.rows.append(row)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{study.title} | {case.method} | {setting} | seed {seed} | {row['accuracy']:.4f} "
              f"| {row['cpu']:.1f} s", flush=True)  # fmt: skip
        return row


def chosen(ledger, study, case, studies):
    """Return the setting that is best on the held-out data of seed 0."""
    settled = {}
    if case.like is not None:
        title, method = case.like
        twin = next(c for c in studies[title].cases if c.method == method)
        settled = chosen(ledger, studies[title], twin, studies)
    settings = [{**settled, **setting} for setting in case.settings]
    if len(settings) == 1:
        return settings[0]
    rows = [ledger.run(study, case, setting, 0, tuning=True) for setting in settings]
    return max(rows, key=lambda row: row["accuracy"])["setting"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], help="how titles of the studies begin")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("mnist5k", "digits", "shapes", "mnist5k_cluttered"):
        register_held_out(name)
    ledger = Ledger(options.out)
    everything = (*STUDIES, ABLATION)
    studies = {study.title: study for study in everything}
    wanted = [study for study in everything if study.title.startswith(tuple(options.only))]
    # In this order, a study that is stopped early has the same few seeds of every method.
    for seeds in (SEEDS[:1], SEEDS[:2], SEEDS):
        for study in wanted:
            for case in study.cases:
                setting = chosen(ledger, study, case, studies)
                for seed in seeds:
                    ledger.run(study, case, setting, seed)


if __name__ == "__main__":
    main()
