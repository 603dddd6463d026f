import json
import os
import shutil
import subprocess
import sys

import pytest

from growmas.errors import RunError
from growmas.runs import list_runs
from growmas.runs.health import check_run
from growmas.runs.lock import LOCK, RunLock, is_locked, read_owner
from growmas.runs.status import StatusWriter, read_status

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom growmas.runs.lock import RunLock\n"
    "lock = RunLock(Path(sys.argv[1]), 'id')\nprint('held', flush=True)\ntime.sleep(600)\n"
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_is_held_until_the_process_is_dead(tmp_path, holder, monkeypatch):
    monkeypatch.setattr("growmas.runs.lock._PATIENCE", 0.0)
    folder = tmp_path / "run"
    assert is_locked(folder)
    assert read_owner(folder).pid == holder.pid
    with pytest.raises(RunError, match=f"in use by process {holder.pid} on "):
        RunLock(folder, "other")
    holder.kill()
    holder.wait()
    assert not is_locked(folder)
    with RunLock(folder, "other") as lock:
        lock.check()
        assert read_owner(folder).run == "other"


def test_a_fork_does_not_keep_the_lock(tmp_path):
    lock = RunLock(tmp_path, "id")
    begun, begins = os.pipe()
    ends, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begins, b"x")
        os.read(ends, 1)
        os._exit(0)
    os.read(begun, 1)
    lock.close()
    assert not is_locked(tmp_path)
    os.write(end, b"x")
    os.waitpid(child, 0)
    for each in (begun, begins, ends, end):
        os.close(each)


def test_a_directory_that_is_replaced_is_noticed(tmp_path):
    folder = tmp_path / "run"
    with RunLock(folder, "id") as lock:
        shutil.rmtree(folder)
        with pytest.raises(RunError, match="moved, deleted or replaced"):
            lock.check()
        folder.mkdir()
        (folder / LOCK).write_text("{}")
        with pytest.raises(RunError, match="moved, deleted or replaced"):
            lock.check()


def test_the_status_says_how_a_run_ended(tmp_path):
    assert read_status(tmp_path) == ("unfinished", "")
    writer = StatusWriter(tmp_path)
    writer.beat()
    status, reason = read_status(tmp_path)  # no process holds the lock
    assert status == "stopped"
    assert "was killed; its last heartbeat was at" in reason
    writer.report("failed", "the loss became NaN")
    assert read_status(tmp_path) == ("failed", "the loss became NaN")
    with RunLock(tmp_path, "id"):
        assert read_status(tmp_path) == ("running", "")
    for text in ("", "[]", '{"status": 1}', "[" * 100_000, '{"heartbeat": 1e999}'):
        (tmp_path / "status.json").write_text(text)
        assert read_status(tmp_path)[0] in ("unfinished", "stopped")
    assert list_runs(tmp_path) == ()


def test_files_of_different_runs_are_found(tmp_path):
    metrics = {
        "name": "x", "method": "mas", "stream": "s", "scenario": "task", "seed": 0, "tasks": ["a"],
        "accuracy": [], "parameters": 1, "units": {}, "seconds": 0.0, "status": "unfinished",
        "run_id": "two",
    }  # fmt: skip
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "config.yaml").write_text("# run one\nname: x\n")
    (tmp_path / "history.db").write_bytes(b"no database at all")
    found = {(each.subject, each.state): each.text for each in check_run(tmp_path)}
    assert "two runs are mixed" in found["metrics.json", "damaged"]
    assert ("config.yaml", "damaged") in found
    assert ("history.db", "damaged") in found
    assert ("checkpoint", "absent") in found
