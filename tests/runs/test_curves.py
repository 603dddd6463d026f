"""Curves of runs: written epoch by epoch, read and printed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from growmas.cli.app import app
from growmas.config import load_config
from growmas.errors import RunError
from growmas.experiment import run_experiment
from growmas.runs.curves import EpochScalars, append_curve, read_curves


def test_a_run_writes_an_entry_for_each_epoch(tmp_path: Path) -> None:
    changes = ["stream.limit=20", "stream.validation=0.2", "training.epochs=2"]
    experiment = load_config("digits_smoke", changes)
    result = run_experiment(experiment, tmp_path / "run")
    found = read_curves(tmp_path / "run")
    assert [(each.task, each.epoch) for each in found] == [
        (task, epoch) for task in range(len(result.tasks)) for epoch in (1, 2)
    ]
    assert all(each.loss > 0 and each.learning_rate > 0 for each in found)
    assert all(each.validation is not None for each in found)
    printed = CliRunner().invoke(app, ["curves", str(tmp_path / "run"), "--json"])
    assert len(json.loads(printed.output)) == len(found)
    assert "learning rate" in CliRunner().invoke(app, ["curves", str(tmp_path / "run")]).output


def test_an_epoch_that_was_repeated_counts_once(tmp_path: Path) -> None:
    for loss in (2.0, 1.0):
        append_curve(tmp_path, EpochScalars(0, "a", 1, loss, 0.0, 0.1))
    assert [each.loss for each in read_curves(tmp_path)] == [1.0]


def test_a_run_without_curves_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="growmas shifts"):
        read_curves(tmp_path)
    (tmp_path / "curves.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"curves\.jsonl:1 is damaged"):
        read_curves(tmp_path)


def test_a_line_that_a_kill_left_incomplete_is_replaced(tmp_path: Path) -> None:
    first, second = (EpochScalars(0, "a", n, 1.0, 0.0, 0.1) for n in (1, 2))
    append_curve(tmp_path, first)
    with (tmp_path / "curves.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"task": 0, "na')
    assert read_curves(tmp_path) == (first,)
    append_curve(tmp_path, second)
    assert read_curves(tmp_path) == (first, second)
