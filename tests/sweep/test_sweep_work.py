"""Runs in processes of their own; what they run is `fake_child`, but for one real sweep."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_child
import pytest

from growmas.errors import RunError
from growmas.sweep import plan_sweep, run_sweep
from growmas.sweep.child import STOPPED
from growmas.sweep.lock import only_one
from growmas.sweep.summary import read_runs
from growmas.sweep.work import _ends_on_signals
from growmas.sweep.workers import workers_for

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "digits_smoke.yaml"
PATIENCE = 60  # seconds, on a machine that has much else to do


class Watcher:
    def __init__(self):
        self.told = []
        self.at_once = self.most = 0

    def begun(self, name):
        self.told.append(("begun", name))
        self.at_once += 1
        self.most = max(self.most, self.at_once)

    def ended(self, run):
        self.told.append((run.status, run.name))
        self.at_once -= 1


@pytest.fixture(autouse=True, params=[True, False], ids=["warm", "cold"])
def quick(monkeypatch, request):
    monkeypatch.setattr("growmas.sweep.work._CHILD", "fake_child")
    monkeypatch.setattr(
        "growmas.sweep.engines.opening.workers_for",
        lambda module, held, *, runs, warm: workers_for(
            module, held, runs=runs, warm=request.param
        ),
    )
    monkeypatch.setattr("growmas.sweep.lock._PATIENCE", PATIENCE)


def sweep(folder, *overrides, jobs=1):
    watcher = Watcher()
    planned = plan_sweep(CONFIG, overrides, directory=folder)
    return run_sweep(planned, jobs=jobs, observer=watcher), watcher


def until(there):
    end = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def test_every_run_is_run_once_and_at_most_so_many_at_once(tmp_path):
    runs, watcher = sweep(tmp_path, "seed=1..3", jobs=2)
    assert [run.status for run in runs] == ["finished"] * 3
    assert watcher.most == 2
    assert sorted(watcher.told) == sorted(
        (what, f"seed={seed}") for seed in (1, 2, 3) for what in ("begun", "finished")
    )
    again, quiet = sweep(tmp_path, "seed=1..3")
    assert (again, quiet.told) == (runs, [])
    more, watcher = sweep(tmp_path, "seed=1..4")
    assert watcher.told == [("begun", "seed=4"), ("finished", "seed=4")]
    assert read_runs(tmp_path) == more


def test_a_run_that_fails_takes_nothing_with_it(tmp_path):
    bad = (fake_child.REFUSED, fake_child.KILLED, fake_child.BROKEN)
    runs, _ = sweep(tmp_path, f"seed=1,{bad[0]},{bad[1]},{bad[2]},2", jobs=2)
    assert [run.status for run in runs] == ["finished", "failed", "failed", "failed", "finished"]
    refused, killed, broken = (run.message for run in runs[1:4])
    assert refused == "there is no such luck\nand no other"
    assert killed.startswith("its process was ended by SIGKILL, as it does when memory runs out; ")
    assert broken.startswith("ZeroDivisionError: by nought (exit code 1; ")
    assert "Traceback" in (tmp_path / "logs" / f"seed={fake_child.BROKEN}.log").read_text()
    assert [run.message for run in read_runs(tmp_path)] == [run.message for run in runs]
    _, watcher = sweep(tmp_path, f"seed=1,{fake_child.REFUSED}")
    assert watcher.told[-1] == ("failed", f"seed={fake_child.REFUSED}")  # it is tried again


def test_an_interrupt_ends_what_is_at_work_and_leaves_what_is_finished(tmp_path):
    class Interrupting(Watcher):
        def ended(self, run):
            raise KeyboardInterrupt

    planned = plan_sweep(CONFIG, [f"seed=1,{fake_child.SLOW},2"], directory=tmp_path)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(planned, jobs=2, observer=Interrupting())
    assert time.monotonic() - began < PATIENCE
    left = {run.name: run.status for run in read_runs(tmp_path)}
    assert left["seed=1"] == "finished"
    assert left["seed=2"] == "waiting"
    assert left[f"seed={fake_child.SLOW}"] in ("unfinished", "waiting")
    with only_one(tmp_path):  # nobody is at work any more
        pass


def test_runs_end_with_a_sweep_that_was_killed_and_are_done_again(tmp_path):
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from growmas.sweep import plan_sweep, run_sweep, work\n"
        "work._CHILD = 'fake_child'\n"
        f"run_sweep(plan_sweep({str(CONFIG)!r}, ['seed=1,{fake_child.SLOW}'], "
        f"directory={str(tmp_path)!r}), jobs=2)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    slow = tmp_path / f"seed={fake_child.SLOW}" / "metrics.json"
    until(lambda: slow.is_file() and read_runs(tmp_path)[0].status == "finished")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    with only_one(tmp_path):  # the run that was at work has ended: it held the folder too
        pass
    planned = plan_sweep(CONFIG, [f"seed=1,{fake_child.SLOW}"], directory=tmp_path)
    assert [run.state for run in planned.runs] == ["finished", "again"]


def test_what_had_only_begun_to_begin_is_replaced(tmp_path):
    planned = plan_sweep(CONFIG, ["seed=1"], directory=tmp_path)
    planned.runs[0].folder.mkdir()
    (planned.runs[0].folder / "history.db").touch()
    (run,), _ = sweep(tmp_path, "seed=1")
    assert run.status == "finished"
    assert (tmp_path / "seed=1" / "state").read_text() == "again"
    assert not (tmp_path / "seed=1" / "history.db").exists()


def test_two_sweeps_in_one_folder_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("growmas.sweep.lock._PATIENCE", 0.0)
    with only_one(tmp_path), pytest.raises(RunError, match="another sweep uses") as error:
        sweep(tmp_path, "seed=1")
    assert "growmas compare" in str(error.value)
    assert not (tmp_path / "seed=1").exists()


def test_a_folder_that_cannot_be_made_and_jobs_that_are_none_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"could not be written: Not a directory; make room there"):
        sweep(tmp_path / "file" / "sweep", "seed=1")
    with pytest.raises(RunError, match="jobs must be at least 1, got 0"):
        sweep(tmp_path / "sweep", "seed=1", jobs=0)


def test_a_summary_that_is_none_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is not a sweep: it has no sweep\.json"):
        read_runs(tmp_path)
    (tmp_path / "sweep.json").write_text('{"runs": [3]}')
    with pytest.raises(RunError, match="is damaged: repeat the command that made it"):
        read_runs(tmp_path)


def test_planning_and_working_never_import_torch(tmp_path):
    code = (
        "import sys\n"
        "from growmas.sweep import plan_sweep, run_sweep, work\n"
        f"plan_sweep({str(CONFIG)!r}, ['seed=1..2'], directory={str(tmp_path)!r})\n"
        "assert not {'torch', 'networkx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_real_run_is_what_it_is_alone(tmp_path, monkeypatch):
    from growmas.config import load_config
    from growmas.experiment import run_experiment

    monkeypatch.undo()
    small = ["stream.tasks=2", "stream.limit=20", "training.epochs=2"]
    (other, run), _ = sweep(tmp_path / "sweep", "seed=1,2", *small)  # two, so that they are forked
    assert (run.status, run.message) == ("finished", "")
    assert other.result.accuracy != run.result.accuracy
    alone = run_experiment(load_config(CONFIG, [*small, "seed=2"]), tmp_path / "alone")
    assert run.result.accuracy == alone.accuracy
    assert run.result.parameters == alone.parameters
    log = (tmp_path / "sweep" / "logs" / f"{run.name}.log").read_text()
    assert [line[:8] for line in log.splitlines()] == ["task 1/2", "task 2/2"]
    (setting,) = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["settings"]
    both = [sum(each.accuracy[-1]) / 2 for each in (other.result, alone)]
    assert setting["average_accuracy"]["mean"] == pytest.approx(sum(both) / 2)


def test_a_server_that_was_killed_is_replaced_and_its_run_ends(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("growmas.sweep.work._CHILD", "fake_child")
    others_before = set(children_of(os.getpid()))
    killed = []

    class Killing(Watcher):
        def begun(self, name):
            if name == f"seed={fake_child.SLOW}":
                (server,) = set(children_of(os.getpid())) - others_before
                until(lambda: children_of(server))
                (run,) = children_of(server)
                os.kill(server, signal.SIGKILL)
                killed.append(run)

    planned = plan_sweep(CONFIG, [f"seed={fake_child.SLOW},1,2"], directory=tmp_path)
    slow, *others = run_sweep(planned, jobs=1, observer=Killing())
    assert slow.status == "failed"
    assert "was ended" in slow.message
    assert [run.status for run in others] == ["finished", "finished"]
    until(lambda: not Path(f"/proc/{killed[0]}").exists() or state_of(killed[0]) == "Z")


def children_of(process):
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and parent_of(int(entry.name)) == process
    ]


def parent_of(process):
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def state_of(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_the_end_of_the_terminal_ends_a_sweep_unless_that_is_ignored():
    with pytest.raises(SystemExit, match=str(STOPPED)), _ends_on_signals():
        signal.raise_signal(signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with _ends_on_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
