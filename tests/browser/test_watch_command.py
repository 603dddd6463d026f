"""Mistakes of `growmas watch` before the browser opens: each is one message."""

from pathlib import Path

import pytest

from growmas.cli import watching
from growmas.errors import GrowmasError, RunError


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
    with pytest.raises(RunError, match="there are no runs below"):
        watching.watch([], tmp_path)
    with pytest.raises(GrowmasError, match="there is no run 'nowhere'"):
        watching.watch(["nowhere"], tmp_path)
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    with pytest.raises(GrowmasError, match="is not a topology history"):
        watching.watch([str(tmp_path / "other.db")], tmp_path)
