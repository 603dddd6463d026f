"""Curves of runs: written while they learn, read and printed."""

import json
import sqlite3
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from growmas.cli.app import app
from growmas.config import load_config
from growmas.errors import GrowmasError, RunError
from growmas.experiment import run_experiment
from growmas.history import TopologyHistory, TopologyTracker
from growmas.runs.curves import CurvePoint, read_curves


def curves(run: Path, *options: str) -> str:
    return CliRunner().invoke(app, ["curves", str(run), *options]).output


def test_a_run_writes_an_entry_for_each_epoch(tmp_path: Path) -> None:
    changes = ["stream.limit=20", "stream.validation=0.2", "training.epochs=2"]
    experiment = load_config("digits_smoke", changes)
    result = run_experiment(experiment, tmp_path / "run")
    found = read_curves(tmp_path / "run")
    assert [(each.task, each.epoch) for each in found] == [
        (task, epoch) for task in range(len(result.tasks)) for epoch in (1, 2)
    ]
    assert all(each.loss and each.learning_rate for each in found)
    assert all(each.validation is not None and each.training is None for each in found)
    assert found[0].step * len(found) == found[-1].step
    assert json.loads(curves(tmp_path / "run", "--json"))[0]["name"] == "0/1"
    assert "learning rate" in curves(tmp_path / "run")
    assert "training samples" not in curves(tmp_path / "run")
    assert read_curves(tmp_path / "run" / "history.db") == found


def test_without_validation_the_accuracy_is_on_training_samples(tmp_path: Path) -> None:
    changes = [
        "training.epochs=3",
        "stream.scenario=class",
        "method.context={kind: gaussian, per: class, dimensions: 9, combine: classes}",
    ]
    run_experiment(load_config("digits_smoke", changes), tmp_path / "run")  # fmt: skip
    found = read_curves(tmp_path / "run")
    assert all(0.5 < (each.training or 0) <= 1 for each in found if each.epoch == 3)
    assert "on training samples" in curves(tmp_path / "run")


def test_a_task_free_run_has_points_by_step(tmp_path: Path) -> None:
    run_experiment(load_config("task_free_smoke", ["stream.steps_per_task=20"]), tmp_path / "run")
    found = read_curves(tmp_path / "run")
    assert [each.step for each in found] == [*range(2, found[-1].step + 1, 2)]
    assert all(each.epoch is None and each.loss for each in found)
    assert "step" in curves(tmp_path / "run")


def test_a_loop_of_ones_own_writes_scalars(tmp_path: Path) -> None:
    import torch

    import growmas

    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    structure = growmas.Structure(net, torch.zeros(2, 3))
    with growmas.TopologyTracker(structure, tmp_path / "run.db") as tracker:
        for loss in (2.0, 1.0):  # the same step again, as after a stop
            tracker.scalars({"loss": loss, "accuracy/validation": 0.5}, step=10, task="a", epoch=1)
        with pytest.raises(GrowmasError, match="finite"):
            tracker.scalars({"loss": float("nan")}, step=11, task="a")
    with TopologyHistory(tmp_path / "run.db") as history:
        (record,) = history.scalars()
    assert record.values == {"loss": 1.0, "accuracy/validation": 0.5}
    assert read_curves(tmp_path / "run.db")[0].validation == 0.5
    assert "1.0000" in curves(tmp_path / "run.db")


def test_a_run_without_curves_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="growmas shifts"):
        read_curves(tmp_path)
    (tmp_path / "curves.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"curves\.jsonl:1 is damaged"):
        read_curves(tmp_path)


def test_curves_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    line = {"task": 0, "name": "a", "epoch": 1, "loss": 2.0, "penalty": 0.0, "learning_rate": 0.1}
    lines = [json.dumps({**line, "validation": None}), json.dumps({**line, "loss": 1.0}), '{"ta']
    (tmp_path / "curves.jsonl").write_text("\n".join(lines), encoding="utf-8")
    point = CurvePoint(0, "a", 1, loss=1.0, penalty=0.0, learning_rate=0.1)
    assert read_curves(tmp_path) == (point,)


def test_a_history_of_an_earlier_version_has_no_scalars(tmp_path: Path) -> None:
    run_experiment(load_config("digits_smoke", ["stream.limit=5", "training.epochs=1"]),
                   tmp_path / "run")  # fmt: skip
    with sqlite3.connect(tmp_path / "run" / "history.db") as connection:
        connection.execute("DROP TABLE scalars")
    with TopologyHistory(tmp_path / "run" / "history.db") as history:
        assert history.scalars() == ()


def test_other_numbers_are_signals_and_snapshots_are_at_the_last_point(tmp_path: Path) -> None:
    sys.path.append(str(Path(__file__).parents[1] / "history"))
    from fake_structure import FakeStructure

    structure = FakeStructure({"fc": 4})
    with TopologyTracker(structure, tmp_path / "own.db") as tracker:
        structure.begin_task("a")
        for step in (1, 2):
            tracker.scalars({"loss": 1 / step, "mine": 2.0}, step=step, task="a", epoch=step)
        tracker.snapshot(metrics={"accuracy/a": 0.9, "dormant": 0.25, "dormant/fc": 0.25})
    first, last = read_curves(tmp_path / "own.db")
    assert (first.mean_accuracy, first.signals) == (None, {"mine": 2.0})
    assert last.mean_accuracy == 0.9
    assert last.signals == {"mine": 2.0, "dormant": 0.25, "dormant/fc": 0.25}
    assert "dormant" in curves(tmp_path / "own.db")
