"""The report of a sweep: settings over seeds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("scipy")

from parsing import Element, parse
from study_cases import ACCURACY, write_run, write_study

from growmas.cli.reporting import report
from growmas.errors import RunError
from growmas.report import StudySummary, read_study
from growmas.report.study_figures import study_figures
from growmas.report.study_page import _headline, build_study_page
from growmas.sweep.collecting import collect_runs

OPTIONS: dict[str, Any] = {"out": None, "figures": None, "png": False, "overwrite": False}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study") / "runs")


@pytest.fixture
def root(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(written, tmp_path / "runs")
    return Path("runs")


@pytest.fixture(scope="module")
def study(written: Path) -> StudySummary:
    return read_study(collect_runs(["s"], written), "s")


@pytest.fixture(scope="module")
def page(study: StudySummary) -> Element:
    return parse(build_study_page(study))


def test_the_table_has_intervals_and_a_mark_where_the_test_says_so(
    page: Element, study: StudySummary
) -> None:
    rows = page.by_id("comparison").all("table")[0].table
    assert [row[0] for row in rows] == list(ACCURACY)
    assert rows[0][2].startswith("91.5 [9")
    assert rows[0][3] == "baseline"
    assert rows[1][3].endswith("*")
    assert study.study.differences[1] is not None
    assert study.study.differences[1].holds
    assert "1 other" not in page.text
    assert "The other setting differs from it by the paired test" in page.text


def test_figures_have_the_numbers_of_the_runs(page: Element, study: StudySummary) -> None:
    figures = {figure.key: figure for figure in study_figures(study)}
    assert list(figures) == ["intervals", "cost", "learning", "losses"]
    seeds = [row[2] for row in figures["intervals"].numbers.rows]
    assert seeds == [value for values in ACCURACY.values() for value in values]
    assert [row[4] for row in figures["cost"].numbers.rows] == [51_000, 1000]
    assert figures["learning"].numbers.rows[1][2] == pytest.approx(0.915)
    loss = figures["losses"].numbers.rows[0]
    assert loss[1:] == (1, pytest.approx(0.25), 0.1, 0.4)
    assert "task loss (log scale)" in page.by_id("losses").text
    assert len(page.by_id("runs").all("table")[0].table) == 8
    for figure in figures.values():
        svg = figure.drawing.render(title=figure.title, description="", name="x", style="")
        assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_names_cannot_become_markup(page: Element) -> None:
    assert not page.all("i")
    assert len(page.all("b")) == 1  # of the bar
    assert len(page.all("script")) == 1


def test_different_streams_have_no_common_task_names(root: Path) -> None:
    write_run(root / "other", "mas", 0, 0.5, tasks=["x", "y", "z"], stream="mnist")
    figures = study_figures(read_study(collect_runs(["s", "other"], root), "s"))
    learning = next(figure for figure in figures if figure.key == "learning")
    assert "different tasks" in learning.caption
    assert "task 1" in learning.drawing.render(title="", description="", name="x")
    text = build_study_page(read_study(collect_runs(["s", "other"], root), "s"))
    assert "These runs do not compare: streams: digits split, mnist" in text


def test_the_command_writes_a_page_and_figures(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(["s"], root, **OPTIONS)
    assert "s-report.html" in capsys.readouterr().out
    assert "91.5" in Path("s-report.html").read_text(encoding="utf-8")
    report(["s"], root, **{**OPTIONS, "figures": Path("figures")})
    assert len(list(Path("figures").glob("*.svg"))) == 4
    with pytest.raises(RunError, match=r"s-report\.html exists: .*--overwrite"):
        report(["s"], root, **OPTIONS)


def test_a_folder_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(RunError, match=r"no/page\.html could not be written: No such file"):
        report(["s"], root, **{**OPTIONS, "out": Path("no/page.html")})
    with pytest.raises(RunError, match=r"no/page\.html could not be written: No such file"):
        report([str(root / "s/kind=mas,seed=0/history.db")], root, **{
            **OPTIONS, "out": Path("no/page.html")})  # fmt: skip


def test_a_sweep_without_a_finished_run(root: Path) -> None:
    for path in root.glob("s/*/metrics.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, "accuracy": [[1.0]], "status": "unfinished"}))
    with pytest.raises(RunError, match="none of these runs is finished"):
        report(["s"], root, **OPTIONS)
    for path in root.glob("s/*/metrics.json"):
        path.unlink()
    with pytest.raises(RunError, match="s has no run with a result yet"):
        report(["s"], root, **OPTIONS)


def test_runs_that_cannot_be_read_or_are_not_finished_are_told(root: Path) -> None:
    (root / "s/kind=mas,seed=0/history.db").unlink()
    first = root / "s/kind=mas,seed=1/metrics.json"
    first.write_text(first.read_text().replace('"finished"', '"unfinished"'))
    page = parse(build_study_page(read_study(collect_runs(["s"], root), "s")))
    assert "7 runs, 1 not finished and left out" in page.text
    assert page.by_id("comparison").all("table")[0].table[0][1] == "3/4"


@pytest.mark.parametrize(
    ("holding", "words"),
    [
        (0, "None of the 3 other settings differs from it"),
        (1, "One of the 3 other settings differs from it"),
        (2, "2 of the 3 other settings differ from it"),
        (3, "All of the 3 other settings differ from it"),
    ],
)
def test_the_headline_counts_the_settings_that_differ(
    study: StudySummary, holding: int, words: str
) -> None:
    (sure,) = (each for each in study.study.differences if each is not None)
    unsure = replace(sure, adjusted=0.5)
    differences = (None, *[sure] * holding, *[unsure] * (3 - holding))
    settings = (study.settings[0], *[study.settings[1]] * 3)
    many = replace(study, settings=settings, study=replace(study.study, differences=differences))
    assert words in _headline(many)
