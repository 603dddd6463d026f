import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from parsing import Element, parse
from report_cases import HOSTILE, NAMES, write_history

from growmas.errors import HistoryError, RunError
from growmas.history import TopologyHistory, TopologyTracker
from growmas.report import (
    RunSummary,
    read_summary,
    run_summary as module,
    write_figures,
    write_report,
)
from growmas.report.page import build_page, comparison_figures, run_figures
from growmas.report.unit_map import map_units
from growmas.runs.curves import CurvePoint

FIGURES = ("widths", "size", "accuracy", "lineage", "importance", "units")


@pytest.fixture(scope="module")
def page(facts: RunSummary) -> Element:
    return parse(build_page([facts]))


@pytest.mark.parametrize("key", FIGURES)
def test_every_figure_has_marks_a_title_and_numbers(page: Element, key: str) -> None:
    figure = page.by_id(f"{key}-0")
    for svg, kind in zip(figure.all("svg"), ("wide", "narrow"), strict=True):
        marks = [e for e in svg.walk() if e.tag in ("rect", "path", "circle", "line")]
        drawn = [e for e in marks if e.attributes["class"] not in ("hit", "rule", "axis")]
        assert len(drawn) > 3
        assert svg.all("title")[0].text
        assert svg.attributes["id"] == f"{key}-0-{kind}"
        assert svg.attributes["aria-labelledby"].split() == [
            e.attributes["id"] for e in svg.children[:2]
        ]
    assert figure.all("details")[0].table


def test_ids_on_the_page_are_unique(facts: RunSummary) -> None:
    page = build_page([facts, facts])
    names = re.findall(r' id="([^"]+)"', page[: page.index("<template")])
    assert len(names) == len({*names}) > 30


def test_widths_on_the_page_are_those_of_the_store(page: Element, history_file: Path) -> None:
    rows = page.by_id("widths-0").all("details")[0].table
    with TopologyHistory(history_file) as history:
        turnover = history.turnover()
    seen = 0
    for task, _, group, before, born, pruned, width in rows:
        numbers = [int(each.replace(",", "")) for each in (before, born, pruned, width)]
        assert numbers[0] + numbers[1] - numbers[2] == numbers[3]
        parts = (
            [turnover[group][task]] if group in turnover else [t[task] for t in turnover.values()]
        )
        assert numbers[1] == sum(part.born for part in parts)
        assert numbers[3] == sum(part.width for part in parts)
        seen += 1
    assert seen == len(NAMES) * 3


def test_bars_of_widths_have_the_heights_of_the_numbers(facts: RunSummary) -> None:
    drawing = run_figures(facts)[0].drawing.render(title="", description="", name="x")
    kept, born = (re.search(rf'class="{style}" d="([^"]+)"', drawing) for style in ("kept", "born"))
    assert kept is not None
    assert born is not None
    heights = [float(h) for h in re.findall(r"v([\d.]+)h", kept[1])]
    fresh = [float(h) for h in re.findall(r"v([\d.]+)h", born[1])]
    group_fresh = [sum(group.fresh[i] for group in facts.groups) for i in range(4)]
    scale = heights[0] / (facts.total[0].width - group_fresh[0])
    for i, (total, young) in enumerate(zip(facts.total, group_fresh, strict=True)):
        assert heights[i] == pytest.approx(scale * (total.width - young), abs=0.02)
    assert fresh == pytest.approx([scale * young for young in group_fresh if young], abs=0.02)


def test_accuracy_and_size_on_the_page_are_those_of_the_store(
    page: Element, history_file: Path
) -> None:
    with TopologyHistory(history_file) as history:
        accuracy, parameters = history.accuracy(), history.parameters()
    rows = page.by_id("accuracy-0").all("details")[0].table
    assert len(rows) == sum(value is not None for row in accuracy for value in row) == 6
    for after, on, value in rows:
        assert float(value) == pytest.approx(accuracy[NAMES.index(after)][NAMES.index(on)])
    grid = json.loads(_grid(page.by_id("accuracy-0"), "accuracy"))
    assert grid["values"] == [[None if v is None else round(v, 4) for v in row] for row in accuracy]
    for row in page.by_id("size-0").all("details")[0].table:
        assert int(row[3].replace(",", "")) == parameters[row[0]]


def test_importance_and_survival_are_those_of_the_store(page: Element, history_file: Path) -> None:
    with TopologyHistory(history_file) as history:
        summary, cohorts = history.importance_summary(), history.survival("fc0")
    for task, group, units, total, *_ in page.by_id("importance-0").all("details")[0].table:
        assert int(units) == summary[group][task].units
        assert float(total) == pytest.approx(summary[group][task].total, rel=1e-5)
    rows = [r for r in page.by_id("lineage-0").all("details")[0].table if r[0] == "fc0"]
    assert [int(r[3]) for r in rows] == [n for c in cohorts for n in c.alive.values()]


def test_every_event_is_on_the_page_with_why(page: Element, facts: RunSummary) -> None:
    rows = page.by_id("events-0").all("tbody")[0].all("tr")
    assert len(rows) == len(facts.events) == 7
    assert "growth & <b>why</b> 1" in rows[0].text
    assert "+6 born" in rows[0].text
    assert rows[0].attributes["data-kind"] == "born"
    assert rows[-1].attributes["data-kind"] == "plateau"
    assert "the loss is flat" in rows[-1].text


def test_names_cannot_become_markup(page: Element, facts: RunSummary) -> None:
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not page.all("b")[1:]
    assert page.all("h1")[0].text == "run & <one>"
    assert HOSTILE in page.by_id("widths-0").text
    for figure in run_figures(facts):
        svg = figure.drawing.render(title=NAMES[2], description=HOSTILE, name="x", style="")
        assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_the_page_asks_nothing_of_the_network(facts: RunSummary) -> None:
    text = build_page([facts])
    assert "default-src 'none'" in text
    links = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!#)([a-z]+:)?//[^"')\s]+""", text)
    assert not links
    assert "@import" not in text


def test_tasks_are_told_to_the_script(page: Element) -> None:
    assert json.loads(page.by_id("run-0").attributes["data-tasks"]) == NAMES


def test_several_runs_are_compared_and_told_apart(facts: RunSummary) -> None:
    text = build_page([facts, facts])
    page = parse(text)
    rows = page.by_id("comparison-of-runs").all("table")[0].table
    assert len(rows) == 2
    assert rows[0][3].startswith(f"{100 * (facts.average_accuracy or 0):.1f}%")
    (template,) = page.all("template")
    template.children.clear()  # not rendered: styles of a saved figure
    ids = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert "comparison" in ids


def test_runs_of_different_tasks_have_no_common_task_names(facts: RunSummary) -> None:
    (figure,) = comparison_figures([facts, replace(facts, tasks=tuple("wxyz"))])
    drawing = figure.drawing.render(title="", description="", name="x")
    assert "different tasks" in figure.caption
    assert "digits" not in drawing
    (figure,) = comparison_figures([facts, facts])
    assert "different tasks" not in figure.caption


def test_curves_have_a_figure_with_all_numbers(facts: RunSummary) -> None:
    points = tuple(
        CurvePoint(i // 3, "ab"[i // 3], i % 3 + 1, i + 1, loss=10.0**-i, signals={"dormant": 0.1})
        for i in range(6)
    )
    figures = {each.key: each for each in run_figures(replace(facts, curves=points))}
    drawing = figures["training"].drawing.render(title="", description="", name="x")
    assert "task loss (log scale)" in drawing
    assert "dormant" in drawing
    assert "penalty" not in drawing
    rows = figures["training"].numbers.rows
    assert [row[3] for row in rows] == [10.0**-i for i in range(6)]
    assert rows[0][-1] == 0.1
    assert 'href="#training-0"' in build_page([replace(facts, curves=points)])


def test_units_map_counts_the_living(history_file: Path) -> None:
    with TopologyHistory(history_file) as history:
        widths = history.widths()["fc0"]
        units = map_units(history, "fc0", NAMES, rows=5)
        whole = map_units(history, "fc0", NAMES)
        values = history.group_importance("fc0")[NAMES[1]]
    assert len(units.first) == 5
    for i, task in enumerate(NAMES):
        assert sum(row[i] for row in units.alive) == widths[task]
    for first, row in zip(whole.first, whole.importance, strict=True):
        assert row[1] == (pytest.approx(values[first]) if first in values else None)


def test_links_count_splits(facts: RunSummary) -> None:
    (group,) = (group for group in facts.groups if group.name == "fc0")
    assert sum(group.links.values()) == 3
    assert all(how == "split" for _, _, how in group.links)


def test_a_history_without_measurements_still_gives_a_page(tmp_path: Path) -> None:
    from fake_structure import FakeStructure

    structure = FakeStructure({"fc": 4})
    with TopologyTracker(structure, tmp_path / "bare.db"):
        structure.begin_task("a")
    with TopologyHistory(tmp_path / "bare.db") as history:
        page = parse(build_page([read_summary(history, "bare")]))
    assert "The structure never changed" in page.by_id("events-0").text
    assert page.by_id("widths-0").all("svg")


def test_a_history_without_a_task_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = TopologyHistory(write_history(tmp_path / "run.db"))
    monkeypatch.setattr(TopologyHistory, "tasks", lambda self: ())
    with history, pytest.raises(HistoryError, match="has no task yet"):
        read_summary(history, "x")


def test_long_runs_give_modest_pages(tmp_path: Path) -> None:
    with TopologyHistory(write_history(tmp_path / "long.db", tasks=60, groups=8)) as history:
        facts = read_summary(history, "long")
    assert len(facts.maps) == module.MAPPED_OF_MANY_TASKS
    assert len(build_page([facts])) < 1_200_000


def test_figures_are_files_of_their_own(facts: RunSummary, tmp_path: Path) -> None:
    paths = write_figures([facts], tmp_path / "figures")
    assert {path.stem for path in paths} == {*FIGURES}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert len(list(root.iter())) > 20
        assert "var(" not in text
        for name in set(re.findall(r"url\(#(\w+)\)", text)):
            assert f'id="{name}"' in text


def test_png_figures_have_colours(facts: RunSummary, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    image = pytest.importorskip("PIL.Image")
    paths = write_figures([facts], tmp_path, png=True)
    with image.open(next(path for path in paths if path.name == "widths.png")) as picture:
        assert picture.width == (960 + 28) * 3
        colours = picture.convert("RGB").getcolors(maxcolors=1_000_000)
    assert len(colours) > 10


def test_png_without_its_library_is_one_message(
    facts: RunSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(RunError, match=r"pip install 'growmas\[report\]'"):
        write_figures([facts], tmp_path, png=True)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked(facts: RunSummary, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("mine")
    with pytest.raises(RunError, match=r"page\.html exists: .*--overwrite"):
        write_report([facts], target)
    assert target.read_text() == "mine"
    write_report([facts], target, overwrite=True)
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_figures_where_a_file_is(facts: RunSummary, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RunError, match=r"could not be written: (Not a directory|File exists)"):
        write_figures([facts], tmp_path / "mine")


def test_a_full_disk_leaves_what_was_there(
    facts: RunSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    target = tmp_path / "page.html"
    target.write_text("mine")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="could not be written: No space left on device"):
        write_report([facts], target, overwrite=True)
    assert target.read_text() == "mine"


def test_a_report_never_imports_torch() -> None:
    program = (
        "import sys, growmas.report, growmas.cli.reporting\n"
        "sys.exit(str({'torch', 'numpy', 'networkx', 'textual'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


def _grid(figure: Element, kind: str) -> str:
    grids = [e.attributes["data-grid"] for e in figure.walk() if "data-grid" in e.attributes]
    return next(grid for grid in grids if json.loads(grid)["kind"] == kind)
