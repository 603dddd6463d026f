"""Runs whose files are lost, damaged or of another run: doctor finds it, and --resume refuses."""

import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import growmas as gm
from growmas.checkpoint import read_state, write_state
from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.experiment import run_experiment
from growmas.experiment.session import Session
from growmas.experiment.stopping import RunStopped, stop_requests
from growmas.runs import list_runs
from growmas.runs.health import check_run

AWARE = (
    "digits_smoke",
    [
        "stream.tasks=2", "stream.limit=10", "training.epochs=2", "model.hidden=[6]",
        "checkpoint.every=2",
    ],
)  # fmt: skip
FREE = (
    "task_free_smoke",
    [
        "stream.tasks=2", "stream.of=permuted", "stream.scenario=domain", "model.hidden=[6]",
        "stream.steps_per_task=12", "checkpoint.every=3",
    ],
)  # fmt: skip


class Stopped(BaseException):
    pass


def stopped(case: tuple[str, list[str]], folder: Path, saves: int) -> None:
    """Begin a run that stops after some checkpoints, as if killed."""
    left, save = saves, Session.save

    def counted(session: Session, *args: object) -> None:
        nonlocal left
        save(session, *args)
        left -= 1
        if not left:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "save", counted)
        with pytest.raises(Stopped):
            run_experiment(load_config(*case), folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: stopped twice over a task boundary, stopped early, task-free and stopped, finished."""
    place = tmp_path_factory.mktemp("kept")
    stopped(AWARE, place / "late", 4)
    stopped(AWARE, place / "early", 1)
    stopped(FREE, place / "free", 3)
    run_experiment(load_config(*AWARE), place / "other")
    return place


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def query(file: Path, *texts: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        for text in texts:
            database.execute(text)
        database.commit()


def newer(folder: Path) -> None:
    text = folder / "checkpoint" / "state.json"
    text.write_text(text.read_text().replace('"format": 2', '"format": 7'))


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoint")
    (folder / "checkpoint").write_text("mine")


def other_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoint")
    shutil.copytree(folder.parent / "kept" / "other" / "checkpoint", folder / "checkpoint")


NO_TEXT = "CAST(x'ff41' AS TEXT)"
FOUND: dict[str, tuple[str, Callable[[Path], object], str, str, str]] = {
    "bits of the tensors": (
        "late", lambda f: flip(f / "checkpoint" / "tensors.safetensors"),
        "checkpoint", "damaged", "the one before it, of 2.* is used",
    ),
    "bits of the text": (
        "late", lambda f: flip(f / "checkpoint" / "state.json"),
        "checkpoint", "damaged", "the one before it, of 2.* is used",
    ),
    "the only state": (
        "early", lambda f: flip(f / "checkpoint" / "tensors.safetensors"),
        "checkpoint", "damaged", "no other is whole; restore a copy, or begin anew with --overw",
    ),
    "newer checkpoint": ("late", newer, "checkpoint", "damaged", "install a newer growmas"),
    "foreign file": (
        "late", lambda f: (f / "checkpoint" / "notes.txt").write_text("mine"),
        "checkpoint", "damaged", r"notes\.txt is not of a checkpoint: move it elsewhere",
    ),
    "no folder": ("late", no_folder, "checkpoint", "damaged", "not a folder: move it elsewhere"),
    "no checkpoint": (
        "late", lambda f: shutil.rmtree(f / "checkpoint"), "checkpoint", "missing", "was deleted",
    ),
    "checkpoint of another run": (
        "late", other_checkpoint, "checkpoint", "damaged", "two runs are mixed",
    ),
    "no history": (
        "late", lambda f: (f / "history.db").unlink(), "history.db", "missing", "was deleted",
    ),
    "no table": (
        "late", lambda f: query(f / "history.db", "DROP TABLE units"),
        "history.db", "damaged", "no such table: units",
    ),
    "text of no encoding": (
        "late",
        lambda f: query(f / "history.db", f"UPDATE tasks SET name = {NO_TEXT} WHERE task = 0"),
        "history.db", "damaged", "UTF-8",
    ),
    "newer history": (
        "late", lambda f: query(f / "history.db", "PRAGMA user_version = 99"),
        "history.db", "damaged", "upgrade growmas",
    ),
    "no config": (
        "late", lambda f: (f / "config.yaml").unlink(), "config.yaml", "missing", "was deleted",
    ),
    "short trace": (
        "free", lambda f: cut(f / "stream.jsonl"), "stream.jsonl", "damaged", "checkpoint is of",
    ),
    "no trace": (
        "free", lambda f: (f / "stream.jsonl").unlink(), "stream.jsonl", "missing", "of step",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", FOUND)
def test_doctor_finds_every_damage(damage: str, kept: Path, tmp_path: Path) -> None:
    name, act, subject, state, text = FOUND[damage]
    (tmp_path / "kept").symlink_to(kept)
    shutil.copytree(kept / name, tmp_path / "run")
    assert {each.state for each in check_run(tmp_path / "run")} == {"ok"}
    act(tmp_path / "run")
    found = [each for each in check_run(tmp_path / "run") if each.state != "ok"]
    assert [(each.subject, each.state) for each in found] == [(subject, state)]
    assert re.search(text, found[0].text)


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no config": ("late", lambda f: (f / "config.yaml").unlink(), "has lost its config.yaml"),
    "no history": ("late", lambda f: (f / "history.db").unlink(), "has lost its history.db"),
    "damaged history": ("late", lambda f: cut(f / "history.db"), "begin anew with --overwrite"),
    "no checkpoint": ("late", lambda f: shutil.rmtree(f / "checkpoint"), "lost its checkpoint"),
    "all states damaged": (
        "late",
        lambda f: [flip(f / "checkpoint" / name) for name in ("state.json", "previous.json")],
        "nor is the one before it: restore a copy, or begin anew with --overwrite",
    ),
    "metrics of another run": (
        "early",
        lambda f: shutil.copy(f.parent / "kept" / "other" / "metrics.json", f),
        "metrics.json in .* belongs to the run",
    ),
    "damaged metrics": (
        "early", lambda f: cut(f / "metrics.json"), "remove it and let --resume write it again",
    ),
    "foreign file": (
        "early", lambda f: (f / "checkpoint" / "notes.txt").write_text("mine"),
        r"not replaced: move notes\.txt elsewhere, or choose another path",
    ),
}  # fmt: skip


@pytest.mark.parametrize("loss", REFUSED)
def test_a_run_that_has_lost_something_is_not_continued(
    loss: str, kept: Path, tmp_path: Path
) -> None:
    name, act, message = REFUSED[loss]
    (tmp_path / "kept").symlink_to(kept)
    shutil.copytree(kept / name, tmp_path / "run")
    act(tmp_path / "run")
    before = {each.name for each in (tmp_path / "run").iterdir()}
    with pytest.raises(GrowmasError, match=message):
        run_experiment(load_config(*AWARE), tmp_path / "run", resume=True)
    after = {each.name for each in (tmp_path / "run").iterdir()}
    assert {name for name in before - after if not name.startswith("history.db-")} == set()


def test_metrics_that_are_removed_are_written_again(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "other", tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    again = run_experiment(load_config(*AWARE), tmp_path / "run", resume=True)
    whole = gm.load_run(kept / "other").metrics
    assert (again.status, again.accuracy) == ("finished", whole.accuracy)


def test_a_run_without_metrics_is_listed_with_its_reason(kept: Path, tmp_path: Path) -> None:
    for name in ("late", "other"):
        shutil.copytree(kept / name, tmp_path / "runs" / name)
    (tmp_path / "runs" / "late" / "metrics.json").unlink()
    (tmp_path / "runs" / "mine").mkdir()
    (tmp_path / "runs" / "mine" / "config.yaml").write_text("name: mine\n")
    listed = list_runs(tmp_path / "runs")
    assert [Path(each.directory).name for each in listed] == ["late", "other"]
    assert "has no metrics.json: continue it with --resume" in listed[0].problem


def test_the_history_is_on_the_disk_before_the_checkpoint_that_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure leaves of the -wal file what was synced."""
    folder, sync = tmp_path / "run", os.fsync
    synced, written = b"", []

    def fsync(handle: int) -> None:
        nonlocal synced
        sync(handle)
        wal = folder / "history.db-wal"
        if wal.exists() and os.path.samestat(os.fstat(handle), wal.stat()):
            synced = wal.read_bytes()

    def write(path: Path, state: dict[str, object], *, parents: bool) -> None:
        written.append((folder / "history.db-wal").read_bytes() == synced)
        write_state(path, state, parents=parents)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("growmas.experiment.session.write_state", write)
    run_experiment(load_config(*AWARE), folder)
    assert len(written) > 3
    assert all(written)
    assert read_state(folder / "checkpoint")["run"]["event"] > 1


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_a_closed_terminal_stops_a_run_unless_that_is_ignored() -> None:
    with stop_requests() as request:
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(RunStopped, match="129") as stop:
            request.check()
    assert stop.value.reason == "stopped by SIGHUP"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_requests() as request:
            signal.raise_signal(signal.SIGHUP)
            request.check()
    finally:
        signal.signal(signal.SIGHUP, before)
