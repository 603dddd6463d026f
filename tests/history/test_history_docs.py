"""The examples of docs/history.md, run on a history."""

import re
import sqlite3
from pathlib import Path

import pytest
from fake_structure import FakeStructure

from growmas.history import TopologyHistory, TopologyTracker, tables

DOCS = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", DOCS, re.DOTALL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    structure = FakeStructure({"fc1": 4, "fc2": 3})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.begin_task("a")
        tracker.snapshot(metrics={"accuracy/a": 0.9}, omega={"fc1": 1.0, "fc2": 2.0})
        structure.edit(prune={"fc1": [1]}, reason="late", cause={"policy": "Late"})
        structure.begin_task("b")
        structure.edit(grow={"fc1": 2}, prune={"fc1": [0]}, cause={"policy": "Swap"})
        tracker.snapshot(metrics={"accuracy/a": 0.8, "accuracy/b": 0.7}, omega={"fc1": 1.0})
    return tmp_path / "run.db"


def test_the_queries_answer_as_the_history_does(path: Path) -> None:
    connection = sqlite3.connect(path)
    widths, policies, accuracy, free, ages, heads = (
        connection.execute(query).fetchall() for query in QUERIES
    )
    connection.close()
    with TopologyHistory(path) as history:
        assert {(task, group): width for task, group, width in widths} == {
            (task, group): width
            for group, by_task in history.widths().items()
            for task, width in by_task.items()
        }
        assert policies == [("Late", 0, 1), ("Swap", 2, 1)]
        assert accuracy == [("a", "a", 0.9), ("b", "a", 0.8), ("b", "b", 0.7)]
        summary = history.importance_summary()["fc1"]["b"]
        assert free == [("fc1", summary.zeros, summary.units, summary.total)]
        assert ages == [("fc1", 0, 1), ("fc1", 1, 1)]
        assert ("a", "fc1", "fc2", 1.0) in heads


def test_the_blob_is_what_the_docs_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    *_, program = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, object] = {}
    exec(program, names)
    with TopologyHistory(path) as history:
        assert (
            names["importance"] == history.importance("a")["fc1"] == {i: float(i) for i in range(4)}
        )
    names["connection"].close()  # type: ignore[attr-defined]


def test_the_tables_are_those_that_are_documented(path: Path) -> None:
    connection = sqlite3.connect(path)
    names = [
        n for (n,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]
    columns = {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names
    }
    connection.close()
    documented = {
        name: re.findall(r"`(\w+)`", listed)
        for name, listed in re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", DOCS, re.MULTILINE)
    }
    assert documented == columns
    for name in names:
        assert name in str(tables.__doc__)
