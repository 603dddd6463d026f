"""How much of a run is done, from the files that it writes."""

import json
from pathlib import Path

import pytest

from growmas.runs.curves import CurvePoint
from growmas.runs.progress import read_progress
from growmas.runs.result import RunResult

TASKS = ("a", "b", "c")


def result(rows: int = 0) -> RunResult:
    accuracy = [[0.5] * (i + 1) for i in range(rows)]
    status = "finished" if rows == len(TASKS) else "unfinished"
    return RunResult("r", "mas", "s", "task", 0, TASKS, accuracy, 1, {}, 1.0, status)


def point(task: int, epoch: int | None = None, step: int = 0) -> CurvePoint:
    return CurvePoint(task, TASKS[task], epoch, step)


@pytest.mark.parametrize(
    ("rows", "points", "said", "share"),
    [
        (0, [], "task 1/3, epoch 0/4", 0.0),
        (0, [point(0, 3)], "task 1/3, epoch 3/4", 3 / 12),
        (1, [point(0, 4)], "task 2/3, epoch 0/4", 4 / 12),
        (1, [point(0, 4), point(1, 1)], "task 2/3, epoch 1/4", 5 / 12),
        (3, [point(2, 4)], "task 3/3, epoch 4/4", 1.0),
    ],
)
def test_epochs_are_counted_over_all_tasks(
    tmp_path: Path, rows: int, points: list[CurvePoint], said: str, share: float
) -> None:
    (tmp_path / "config.yaml").write_text("training: {epochs: 4}\n")
    progress = read_progress(tmp_path, result(rows), points)
    assert str(progress) == said
    assert progress.share == pytest.approx(share)


@pytest.mark.parametrize("config", [None, "training: {}\n", "training: {epochs: many}\n", "["])
def test_a_config_that_does_not_say_how_many(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    progress = read_progress(tmp_path, result(), [point(0, 3)])
    assert str(progress) == "task 1/3, epoch 3"
    assert progress.share is None


def test_steps_of_a_task_free_stream(tmp_path: Path) -> None:
    (tmp_path / "stream.jsonl").write_text(json.dumps({"steps": 600}) + "\n")
    progress = read_progress(tmp_path, result(1), [point(0, step=150)])
    assert str(progress) == "task 2/3, step 150/600"
    assert progress.share == 0.25
    (tmp_path / "stream.jsonl").write_text("damaged")
    assert read_progress(tmp_path, result(1), []).share is None
