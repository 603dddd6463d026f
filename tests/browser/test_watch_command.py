"""Mistakes of `growmas watch` before the browser opens: each is one message."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "history"))  # for its fake structure

from fake_structure import FakeStructure

from growmas.browser.found_runs import Place
from growmas.browser.watched_run import WatchedRun
from growmas.cli import watching
from growmas.errors import GrowmasError, RunError
from growmas.history import TopologyTracker
from growmas.runs.listing import RunEntry
from growmas.runs.result import RunResult


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_in_a_terminal", lambda: True)


def test_without_textual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"needs Textual: pip install 'growmas\[tui\]'"):
        watching.watch([], Path("runs"))


def test_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "find_spec", lambda name: object())
    monkeypatch.setattr(watching, "_in_a_terminal", lambda: False)
    with pytest.raises(RunError, match="needs a terminal; growmas show"):
        watching.watch([], Path("runs"))


@pytest.mark.usefixtures("terminal")
def test_runs_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "find_spec", lambda name: object())
    with pytest.raises(GrowmasError, match="there is no run 'nowhere'"):
        watching.watch(["nowhere"], tmp_path)
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    with pytest.raises(GrowmasError, match="is not a topology history"):
        watching.watch([str(tmp_path / "other.db")], tmp_path)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("names", "where"), [((), "runs"), (("s",), "runs/s"), (("runs",), "runs"), (("one",), "")]
)
def test_what_is_watched(
    names: tuple[str, ...], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = pytest.importorskip("growmas.browser.app")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "s").mkdir(parents=True)
    (tmp_path / "runs" / "s" / "sweep.json").write_text("{}")
    history = tmp_path / "runs" / "one" / "history.db"
    history.parent.mkdir()
    TopologyTracker(FakeStructure({"fc": 4}), history).close()
    asked: list[tuple[list[str], str]] = []

    class Seen:
        def __init__(self, *, find: Callable[[], Sequence[Place]], where: str) -> None:
            asked.append(([place.name for place in find()], where))

        def run(self) -> None:
            pass

    monkeypatch.setattr(browser, "Browser", Seen)
    watching.watch(names, Path("runs"))
    found = [] if names == ("s",) else ["one"]
    assert asked == [(found, str(tmp_path / where) if where else "")]


def test_the_time_left_is_told_by_the_pace_seen() -> None:
    result = RunResult("r", "mas", "s", "task", 0, ["a"], [], 1, {}, 1.0, "unfinished", started=0.0)
    entry = RunEntry("r", "", result, status="running")
    run = WatchedRun("r", Path("r/history.db"), entry=entry)
    assert run.left(50.0) == ""
    run._paces.append((40.0, 0.5))
    assert run.left(50.0) == "50 s left"  # half of it took 50 s since the start
    run._paces.append((41.0, 0.51))
    assert run.left(51.0) == "49 s left"
    run._paces.append((60.0, 0.6))
    assert run.left(60.0) == "1 min left"  # a tenth took 20 s, four are left
    run.entry = replace(entry, status="stopped")
    assert run.left(60.0) == ""
