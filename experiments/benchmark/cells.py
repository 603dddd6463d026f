"""Cells of the benchmark: a scenario, a setting and a seed, known by what they resolve to."""

import hashlib
import json
from pathlib import Path

from growmas.config import load_config

HERE = Path(__file__).parent
HELD_OUT = ("stream.validation=0.2", "seed=0")
"""What a cell of tuning changes."""


def cell_of(scenario, setting, more):
    """Return the experiment of a cell, and the identity of what it is resolved to."""
    given = [*scenario.overrides, *setting, *more]
    experiment = load_config(HERE / "benchmark.yaml", given)
    values = experiment.model_dump(mode="json", exclude={"name", "imports", "log", "checkpoint"})
    text = json.dumps(values, sort_keys=True)
    return experiment, hashlib.sha256(text.encode()).hexdigest()[:16]


def score(row):
    """Return the accuracy on held-out samples of a tuning row, on test samples of another.

    −1 for a cell that failed.
    """
    result = row.get("result")
    if result is None:
        return -1.0
    values = result["validation"][-1:] if row["tuning"] else result["accuracy"][-1]
    return sum(values) / len(values)
