import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_structure import FakeStructure
from printing import printed

from growmas.history import TopologyHistory, TopologyTracker
from growmas.terminal.topology import as_data, render_history, summarise

GROUPS = ("features.0", "blocks.1.mlp.fc1", "fc", "all units")


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [80, 120])
def test_golden(
    history: TopologyHistory, width: int, ascii: bool, check_golden: Callable[[str, str], None]
) -> None:
    text = printed(render_history(summarise(history), ascii=ascii), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii() is ascii
    check_golden(f"history_{width}_{'ascii' if ascii else 'unicode'}", text)


@pytest.mark.parametrize("width", [80, 100, 120, 300])
def test_printed_numbers_add_up_at_every_width(history: TopologyHistory, width: int) -> None:
    rows = _unit_rows(printed(render_history(summarise(history), ascii=True), width))
    assert rows.keys() == {*GROUPS}
    for name, cells in rows.items():
        end, *_ = cells[0]
        for now, born, died in cells[1:]:
            end += born - died
            assert now == end, f"{name}: {cells}"
    for column in zip(*(rows[name] for name in GROUPS), strict=True):
        *parts, total = column
        assert tuple(map(sum, zip(*parts, strict=True))) == total


def test_tasks_share_columns_only_where_they_do_not_fit(history: TopologyHistory) -> None:
    narrow, wide = (printed(render_history(summarise(history)), width) for width in (80, 300))
    assert "9 tasks in 5 columns" in " ".join(narrow.split())
    assert "columns" not in wide
    assert all(f"{2 * i}/{2 * i + 1}" in wide for i in range(8))


def test_tasks_that_changed_least_share_a_column(history: TopologyHistory) -> None:
    text = printed(render_history(summarise(history)), 120)
    assert (
        "8/9 …\n" in "\n".join(line.rstrip() for line in text.splitlines()[:3]) or "8/9 … " in text
    )


def test_living_and_ever_and_importance_are_those_of_the_store(lives: TopologyHistory) -> None:
    data = json.loads(json.dumps(as_data(summarise(lives))))
    text = printed(render_history(summarise(lives)), 80)
    for group in data["groups"]:
        assert f"{group['living']}/{group['ever']} " in text
        for task in data["tasks"][:6]:
            units = lives.importance(task["task"])[group["name"]]
            importance = task["groups"][group["name"]]["importance"]
            assert importance == pytest.approx(sum(units.values()))
    assert data["tasks"][6]["groups"]["features.0"]["importance"] is None


def test_data_and_table_come_from_one_computation(history: TopologyHistory) -> None:
    data = json.loads(json.dumps(as_data(summarise(history))))
    rows = _unit_rows(printed(render_history(summarise(history), ascii=True), 300))
    for index, task in enumerate(data["tasks"]):
        cell = task["groups"]["features.0"]
        assert cell["before"] + cell["born"] - cell["died"] == cell["width"]
        assert rows["features.0"][index][0] == cell["width"]
    assert data["unfinished"] == "digits 16/17"
    assert data["tasks"][2]["mean_accuracy"] == pytest.approx(0.94)
    assert data["tasks"][0]["final_accuracy"] == pytest.approx(0.88)
    assert data["tasks"][8]["final_accuracy"] is None


def test_a_history_of_one_task_with_a_name_in_markup(tmp_path: Path) -> None:
    structure = FakeStructure({"[red]fc": 4})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        tracker.snapshot("[bold]a")
    with TopologyHistory(tmp_path / "run.db") as history:
        text = printed(render_history(summarise(history)), 40)
    assert "[red]fc" in text
    assert "[bold]a" in text
    assert "accuracy" not in text


def _unit_rows(text: str) -> dict[str, list[tuple[int, int, int]]]:
    """Return width, births and deaths in every column, by name of the row."""
    lines = text.splitlines()
    rows = {}
    for name in GROUPS:
        at = next(index for index, line in enumerate(lines) if line.startswith(f"{name} "))
        found = list(re.finditer(r"(?<= )\d+(?= #)", lines[at]))
        ends = [match.start() for match in found[1:]] + [len(lines[at + 1]) + 1]
        cells = []
        for match, end in zip(found, ends, strict=True):
            below = lines[at + 1][match.start() : end]
            cells.append((int(match[0]), _number(below, r"\+(\d+)"), _number(below, r"-(\d+)")))
        rows[name] = cells
    return rows


def _number(cell: str, pattern: str) -> int:
    found = re.search(pattern, cell)
    return int(found[1]) if found else 0
