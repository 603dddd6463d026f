"""The command `growmas report`, called as the command line calls it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from parsing import parse

from growmas.cli.reporting import report
from growmas.errors import RunError

OPTIONS: dict[str, Any] = {"out": None, "figures": None, "png": False, "overwrite": False}
METRICS = {
    "name": "digits-mas", "method": "mas", "stream": "digits split", "scenario": "task", "seed": 3,
    "tasks": ["a"], "accuracy": [[0.9]], "parameters": 7, "units": {"fc0": 24}, "seconds": 61.2,
    "status": "finished",
}  # fmt: skip


@pytest.fixture
def root(history_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        shutil.copy(history_file, folder / "history.db")
        (folder / "metrics.json").write_text(json.dumps(METRICS))
    return Path("runs")


def test_a_run_by_its_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(["one"], root, **OPTIONS)
    assert "digits-mas-report.html" in capsys.readouterr().out
    page = parse(Path("digits-mas-report.html").read_text(encoding="utf-8"))
    assert "digits split · task-incremental · method mas · seed 3 · finished" in page.text


def test_runs_of_one_name_are_called_as_they_were_asked_for(root: Path) -> None:
    report(["one", "two", "runs/one/history.db"], root, **{**OPTIONS, "out": Path("all.html")})
    page = parse(Path("all.html").read_text(encoding="utf-8"))
    rows = page.by_id("comparison-of-runs").all("table")[0].table
    assert [row[0] for row in rows] == ["one", "two", "runs/one/history.db"]


def test_a_bare_history_needs_no_metrics(root: Path, history_file: Path) -> None:
    report([str(history_file)], root, **{**OPTIONS, "out": Path("bare.html")})
    assert parse(Path("bare.html").read_text(encoding="utf-8")).all("h1")[0].text == "run"


def test_figures_instead_of_a_page(root: Path) -> None:
    report(["one", "two"], root, **{**OPTIONS, "figures": Path("figures")})
    names = {path.name for path in Path("figures").iterdir()}
    assert {"comparison.svg", "1-one-widths.svg", "2-two-units.svg"} <= names
    assert not list(Path().glob("*.html"))


def test_png_without_a_folder(root: Path) -> None:
    with pytest.raises(RunError, match="--figures FOLDER"):
        report(["one"], root, **{**OPTIONS, "png": True})


def test_a_run_that_is_not_there(root: Path) -> None:
    with pytest.raises(RunError, match="did you mean 'one'"):
        report(["on"], root, **OPTIONS)
