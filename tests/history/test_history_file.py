import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_structure import FakeStructure

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker
from growmas.history.tables import VERSION

KILLED_IN_AN_EDIT = """
import os, sys
from fake_structure import FakeStructure
from growmas.history import TopologyTracker

structure = FakeStructure({"fc1": 4})
tracker = TopologyTracker(structure, sys.argv[1])
tracker.snapshot("a", metrics={"accuracy": 0.5})
real = tracker._store.write_topology
tracker._store.write_topology = lambda *args: os._exit(9)  # the last step of an edit
structure.edit(grow={"fc1": 3}, prune={"fc1": [0]})
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_a_writer_killed_in_an_edit_leaves_the_state_before_it(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", KILLED_IN_AN_EDIT, str(path)]
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    with TopologyHistory(path) as history:
        assert history.widths() == {"fc1": {"a": 4}}
        assert history.events() == ()
        assert history.metrics("a") == {"accuracy": 0.5}
    with TopologyTracker.resume(FakeStructure({"fc1": 4}), path) as tracker:
        tracker.snapshot("b")


def test_a_reader_never_sees_half_an_edit(path: Path) -> None:
    written = threading.Event()

    def write() -> None:
        structure = FakeStructure({"fc1": 5, "fc2": 5})
        with TopologyTracker(structure, path):
            written.set()
            for unit in range(100):
                structure.edit(
                    grow={"fc1": 1, "fc2": 1}, prune={"fc1": [unit], "fc2": [unit]}, reason="swap"
                )

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(30)
    seen = set()
    with TopologyHistory(path) as history:
        while writer.is_alive():
            with history.frozen():
                assert {tuple(by.values()) for by in history.widths().values()} == {(5,)}
                events = len(history.events())
                assert history.units()["fc1"][0] == events
                assert history.units()["fc2"][0] == events
            seen.add(events)
        writer.join()
        assert len(history.events()) == 100
    assert seen


def test_a_reader_does_not_write(path: Path) -> None:
    TopologyTracker(FakeStructure({"fc1": 4}), path).close()
    before = path.read_bytes()
    path.chmod(0o444)
    with TopologyHistory(path) as history:
        history.widths()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            history._connection.execute("DELETE FROM units")
    assert path.read_bytes() == before


def test_an_existing_path_is_kept_unless_told_otherwise(path: Path) -> None:
    structure = FakeStructure({"fc1": 4})
    TopologyTracker(structure, path).close()
    with pytest.raises(HistoryError, match="overwrite=True"):
        TopologyTracker(structure, path)
    structure.edit(grow={"fc1": 1})
    TopologyTracker(structure, path, overwrite=True).close()
    with TopologyHistory(path) as history:
        assert history.widths() == {"fc1": {"task 0": 5}}


def test_overwrite_spares_what_is_not_a_history(path: Path) -> None:
    path.write_text("a thesis")
    with pytest.raises(HistoryError, match="move it away"):
        TopologyTracker(FakeStructure({"fc1": 4}), path, overwrite=True)
    assert path.read_text() == "a thesis"


def test_names_with_url_characters_are_paths(tmp_path: Path) -> None:
    path = tmp_path / "seed #1?" / "100%.db"
    TopologyTracker(FakeStructure({"fc1": 4}), path).close()
    with TopologyHistory(path) as history:
        assert history.widths() == {"fc1": {"task 0": 4}}


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no topology history at"):
        TopologyHistory(tmp_path / "missing.db")
    with pytest.raises(HistoryError, match="no topology history at"):
        TopologyHistory(tmp_path)
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("not a database " * 100)
    sqlite3.connect(tmp_path / "other.db").executescript("CREATE TABLE t (x)").connection.close()
    for name in ("empty.db", "text.db", "other.db"):
        with pytest.raises(HistoryError, match="not a topology history"):
            TopologyHistory(tmp_path / name)


@pytest.mark.parametrize(
    ("version", "remedy"), [(99, "upgrade growmas"), (1, "run the experiment again")]
)
def test_another_schema_is_refused(path: Path, version: int, remedy: str) -> None:
    structure = FakeStructure({"fc1": 4})
    TopologyTracker(structure, path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    words = f"schema version {version} and this growmas reads version {VERSION}: {remedy}"
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=words):
        TopologyHistory(path)
    with pytest.raises(HistoryError, match=words):
        TopologyTracker.resume(structure, path)
    assert path.read_bytes() == before


def test_a_damaged_file_is_named(path: Path) -> None:
    TopologyTracker(FakeStructure({"fc1": 4}), path).close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with TopologyHistory(path) as history, pytest.raises(HistoryError, match="could not be read"):
        history.widths()


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "x", None])
def test_a_timeout_that_is_not_a_time_is_refused(path: Path, timeout: object) -> None:
    structure = FakeStructure({"fc1": 4})
    with pytest.raises(HistoryError, match="timeout: expected seconds, 0 or more, got"):
        TopologyTracker(structure, path, timeout=timeout)
    assert not path.exists()
