"""Several sweeps of one folder, one after another or as shards; runs are `fake_child`'s."""

from pathlib import Path

import pytest

from growmas.errors import RunError
from growmas.sweep import plan_sweep, run_sweep
from growmas.sweep.lock import only_one
from growmas.sweep.summary import read_runs

CONFIG = Path(__file__).parents[2] / "configs" / "digits_smoke.yaml"
PATIENCE = 60  # seconds, on a machine that has much else to do


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("growmas.sweep.work._CHILD", "fake_child")


class Watcher:
    def __init__(self):
        self.begun_runs = []

    def begun(self, name):
        self.begun_runs.append(name)

    def ended(self, run):
        pass


def sweep(folder, *overrides):
    watcher = Watcher()
    planned = plan_sweep(CONFIG, overrides, directory=folder)
    return run_sweep(planned, jobs=2, observer=watcher), watcher.begun_runs


def test_runs_of_earlier_sweeps_stay_in_the_record_with_all_keys(tmp_path):
    sweep(tmp_path, "seed=1,2")
    runs, begun = sweep(tmp_path, "seed=2,3", "method.strength=0.5,1")
    assert sorted(begun) == [
        "seed=2,strength=0.5",
        "seed=3,strength=0.5",
        "seed=3,strength=1",
    ]
    assert runs[1].name == "seed=2"  # with the strength of the config, which is 1
    assert dict(runs[1].setting) == {"seed": "2", "method.strength": "1"}
    recorded = {run.name: dict(run.setting) for run in read_runs(tmp_path)}
    assert len(recorded) == 5
    assert recorded["seed=1"] == {"seed": "1", "method.strength": "1"}
    assert all(run.status == "finished" for run in read_runs(tmp_path))


def test_shards_run_side_by_side_and_record_together(tmp_path, monkeypatch):
    first = plan_sweep(CONFIG, ["seed=1..3"], directory=tmp_path, shard="1/2")
    second = plan_sweep(CONFIG, ["seed=1..3"], directory=tmp_path, shard="2/2")
    monkeypatch.setattr("growmas.sweep.lock._PATIENCE", 0.0)
    with only_one(tmp_path, first.shard):
        done = run_sweep(second)
        assert [run.status for run in done] == ["waiting", "finished", "waiting"]
        with pytest.raises(RunError, match="another process runs shard 1/2"):
            run_sweep(first)
        with pytest.raises(RunError, match="another sweep uses"):
            sweep(tmp_path, "seed=1")
        other = plan_sweep(CONFIG, ["seed=1..3"], directory=tmp_path, shard="2/3")
        with pytest.raises(RunError, match="is split into 2 shards by sweeps that still run"):
            run_sweep(other)
    monkeypatch.setattr("growmas.sweep.lock._PATIENCE", PATIENCE)
    assert [run.status for run in run_sweep(first)] == ["finished"] * 3
    assert [run.status for run in read_runs(tmp_path)] == ["finished"] * 3
    run_sweep(other)  # nothing is left, and the folder is free
