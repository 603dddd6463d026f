"""Kills, readers during a write, full disks, folders that cannot be written."""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from fake_structure import FakeStructure
from other_process import check

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker

OTHER = Path(__file__).with_name("other_process.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def _start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(OTHER), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True)


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _check_file(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


@pytest.mark.parametrize("seed", range(10))
def test_a_run_killed_at_any_moment_misses_nothing_it_reported(path: Path, seed: int) -> None:
    with _start("write", path) as writer:
        assert _line(writer) == "0\n"
        time.sleep(random.Random(seed).uniform(0, 0.2))
        writer.kill()
        reported = int([0, *writer.communicate()[0].split()][-1])
    assert writer.returncode == -9
    with TopologyHistory(path) as history:  # with the -wal file of the killed process
        steps = check(history, at_least=reported)
        assert steps <= reported + 1
    _check_file(path)
    with TopologyHistory(path) as history:
        assert len(history.log()) == steps


def test_two_processes_read_while_one_writes(path: Path) -> None:
    with _start("write", path) as writer:
        _line(writer)
        readers = [_start("read", path, 2) for _ in range(2)]
        said = [reader.communicate(timeout=300)[0] for reader in readers]
        writer.kill()
    assert [reader.returncode for reader in readers] == [0, 0]
    for times, steps in (map(int, words.split()) for words in said):
        assert times > 1
        assert steps > 1


def test_a_full_disk_undoes_the_edit_and_says_so(path: Path) -> None:
    structure = FakeStructure({"fc1": 40})
    tracker = TopologyTracker(structure, path)
    tracker.snapshot("a", metrics={"accuracy": 0.5})
    store = tracker._store
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(HistoryError, match=r"run\.db could not be written: .*full"):
        structure.edit(grow={"fc1": 5000})
    tracker.close()
    with TopologyHistory(path) as history:
        assert history.events() == ()
        assert history.widths() == {"fc1": {"a": 40}}
    _check_file(path)


def test_a_path_below_a_file_is_refused(path: Path) -> None:
    path.write_text("a thesis")
    with pytest.raises(HistoryError, match="choose a path in a folder you can write"):
        TopologyTracker(FakeStructure({"fc1": 4}), path / "run.db")


AS_ANOTHER_USER = """
import os, sys
from fake_structure import FakeStructure
from growmas.errors import HistoryError
from growmas.history.reader import TopologyHistory
from growmas.history.tracker import TopologyTracker

if os.geteuid() == 0:
    os.setuid(65534)
folder = sys.argv[1]
for attempt in (
    lambda: TopologyTracker(FakeStructure({"fc1": 4}), folder + "/new.db"),
    lambda: TopologyTracker.resume(FakeStructure({"fc1": 4}), folder + "/closed.db"),
):
    try:
        attempt()
    except HistoryError as error:
        print(error)
    else:
        sys.exit("written")
for name in ("closed", "killed"):
    with TopologyHistory(f"{folder}/{name}.db") as history:
        print(name, history.widths()["fc1"])
"""


def test_a_folder_that_cannot_be_written_can_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        TopologyTracker(FakeStructure({"fc1": 4}), Path(folder, "closed.db")).close()
        with _start("write", Path(folder, "killed.db")) as writer:
            _line(writer)
            writer.kill()
        Path(folder).chmod(0o555)
        command = [sys.executable, "-c", textwrap.dedent(AS_ANOTHER_USER), folder]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        Path(folder).chmod(0o755)
    assert done.returncode == 0, done.stderr
    refused, resumed, closed, killed = done.stdout.splitlines()
    assert "no history can be written at" in refused
    assert "cannot be written" in resumed
    assert closed == "closed {'task 0': 4}"
    assert killed.startswith("killed {'task 0': 60")
