"""A history of version 1 is read as it was meant, and brought up to date when it goes on."""

import sqlite3
from pathlib import Path

import pytest
from fake_structure import FakeStructure

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker
from growmas.history.tables import VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Tasks a, b and c; c has no snapshot. In a, fc2 grew after its snapshot."""
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.executescript(Path(__file__).with_name("version_1.sql").read_text())
    connection.close()
    return tmp_path / "old.db"


def _version(path: Path) -> int:
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


def _check_content(history: TopologyHistory) -> None:
    assert history.widths() == {
        "fc1": {"a": 5, "b": 7, "c": 6},
        "fc2": {"a": 4, "b": 4, "c": 4},
    }
    assert history.importance("a") == {
        "fc1": {unit: float(unit) for unit in range(5)},
        "fc2": {0: 0.0, 1: 0.5, 2: 1.0},
    }
    assert history.unit("fc1", 6).importance == {"b": 12.0}
    assert history.importance_summary()["fc1"]["b"].total == 2.0 * sum(range(1, 8))
    assert history.unit("fc1", 5).parent == 4
    assert history.metrics("a") == {"accuracy": 0.9, "accuracy/a": 0.9}
    events = [(event.kind, event.reason, event.cause) for event in history.events()]
    assert events[1:3] == [("edit", "late", {}), ("edit", "novelty", {})]
    assert history.sizes()["b"].units == 11
    assert history.sizes()["b"].flops is None
    assert history.graph("a").nodes["fc1"]["width"] == 5


def test_reading_leaves_the_file_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    with TopologyHistory(path) as history:
        _check_content(history)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            history._connection.execute("DELETE FROM units")
    assert path.read_bytes() == before


def test_going_on_brings_the_file_up_to_date(path: Path) -> None:
    structure = FakeStructure({"fc1": 4, "fc2": 3})
    for name, task in (("a", 1), ("b", 2), ("c", 3)):
        structure.begin_task(name)
        assert structure.task == task - 1
    structure.edit(grow={"fc1": 4, "fc2": 1}, prune={"fc1": [0]})
    structure.edit(prune={"fc1": [6]})
    with TopologyTracker.resume(structure, path) as tracker:
        assert _version(path) == VERSION
        tracker.snapshot(omega={"fc1": 1.0, "fc2": 1.0})
    with TopologyHistory(path) as history:
        _check_content(history)
        assert history.unit("fc1", 7).importance == {"b": 14.0, "c": 7.0}
        assert [event.kind for event in history.log()][-2:] == ["begin", "snapshot"]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_file_that_contradicts_itself_stays_as_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM importance WHERE unit = 2 AND task = 0")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="'fc1' in task 0 is of 4 units that never lived"):
        TopologyHistory(path)
    assert path.read_bytes() == before


def test_the_migrated_tables_are_those_of_a_new_file(path: Path, tmp_path: Path) -> None:
    structure = FakeStructure({"fc1": 7, "fc2": 4})
    TopologyTracker(structure, tmp_path / "new.db").close()
    with pytest.raises(HistoryError, match="living units are not the structure's"):
        TopologyTracker.resume(structure, path)
    assert _tables(path) == _tables(tmp_path / "new.db")


def _tables(path: Path) -> set[tuple[str, str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    found = {(name, sql) for name, sql in rows}
    connection.close()
    return found
