"""Comparing what loops of one's own wrote."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import growmas
from growmas.cli.app import app
from growmas.config import load_config
from growmas.experiment import run_experiment
from growmas.runs.own_history import read_own_result


def write(path: Path, rows: list[list[float]], **meta: str) -> Path:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    structure = growmas.Structure(net, torch.zeros(2, 3))
    names = ["a", "b"]
    with growmas.TopologyTracker(structure, path, meta=meta) as tracker:
        for name, row in zip(names, rows, strict=False):
            structure.begin_task(name)
            metrics = {f"accuracy/{n}": value for n, value in zip(names, row, strict=False)}
            tracker.snapshot(metrics=metrics)
    return path


def compare(*paths: Path, json_too: bool = True) -> str:
    options = ["--json"] if json_too else []
    found = CliRunner().invoke(app, ["compare", *map(str, paths), *options])
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


ROWS = [[0.9], [0.8, 0.7]]
FACTS = {"stream": "mine", "scenario": "task", "stream_digest": "12ab"}


def test_a_history_of_ones_own_is_a_result(tmp_path: Path) -> None:
    result = read_own_result(write(tmp_path / "run.db", ROWS, method="mine", seed="3", **FACTS))
    assert result.accuracy == ROWS
    assert (result.parameters, result.units, result.seed) == (26, {"0": 4}, 3)
    assert result.finished
    assert result.forgetting == pytest.approx(0.1)


def test_histories_of_the_same_stream_compare(tmp_path: Path) -> None:
    one = write(tmp_path / "one.db", ROWS, **FACTS)
    other = write(tmp_path / "other.db", [[0.9], [0.9, 0.8]], **FACTS)
    found = json.loads(compare(one, other))
    assert found["comparable"]
    assert [run["average_accuracy"] for run in found["runs"]] == pytest.approx([0.75, 0.85])
    assert "one.db" in compare(one, other, json_too=False)


def test_other_or_unknown_streams_are_not_compared(tmp_path: Path) -> None:
    one = write(tmp_path / "one.db", ROWS, **FACTS)
    other = write(tmp_path / "other.db", ROWS, **{**FACTS, "stream_digest": "34cd"})
    assert json.loads(compare(one, other))["differences"] == [
        "samples of seed 0: one.db (12ab), other.db (34cd)"
    ]
    bare = write(tmp_path / "bare.db", ROWS)
    (difference,) = json.loads(compare(one, bare))["differences"]
    assert difference == "the stream of bare.db is not known"
    run_experiment(load_config("digits_smoke", ["stream.limit=5", "training.epochs=1"]),
                   tmp_path / "run")  # fmt: skip
    both = json.loads(compare(tmp_path / "run", one))
    assert not both["comparable"]
    assert both["runs"][0]["flops"] > both["runs"][0]["parameters"]


def test_a_history_without_accuracies_says_what_to_write(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.db", [[], []])
    found = CliRunner().invoke(app, ["compare", str(bare)])
    assert "tracker.snapshot(metrics=" in str(found.exception)
