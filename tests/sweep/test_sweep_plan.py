"""Everything is checked before the first run begins."""

import json
import shutil
from pathlib import Path

import fake_child
import pytest

from growmas.errors import ConfigError, RunError
from growmas.sweep import plan_sweep

CONFIG = "configs/digits_smoke.yaml"


def refused(kind, *overrides, config=CONFIG, **options):
    with pytest.raises(kind) as caught:
        plan_sweep(config, overrides, **options)
    return str(caught.value)


def test_runs_are_below_one_folder_and_say_what_they_are(tmp_path):
    sweep = plan_sweep("digits_smoke", ["seed=3,4", "method.strength=0.5"], root=tmp_path)
    assert sweep.folder == tmp_path / "digits-smoke-sweep"
    first, second = sweep.runs
    assert first.folder == sweep.folder / "seed=3,strength=0.5"
    assert dict(second.setting) == {"seed": "4", "method.strength": "0.5"}
    assert (second.experiment.seed, second.experiment.method.strength) == (4, 0.5)
    assert {run.state for run in sweep.runs} == {"new"}
    assert not any(tmp_path.iterdir())


def test_all_mistakes_are_told_at_once_and_once(tmp_path):
    message = refused(
        ConfigError, "sed=1..3", "model.hiden=3,4", "training.epochs=1,-1", "seed=", root=tmp_path
    )
    assert sorted(message.splitlines()) == [
        'override model.hiden=3,4: model.hiden: unknown key; did you mean "hidden"?',
        'override sed=1..3: sed: unknown key; did you mean "seed"?',
        "override seed=: expected a value before and after every comma, got nothing; write null "
        "for none",
        "override training.epochs=1,-1: training.epochs: expected a whole number of epochs for "
        "each task, at least 1, got -1",
    ]


def test_values_that_do_not_go_together_are_told_with_the_runs(tmp_path):
    message = refused(
        ConfigError, "training.optimizer=adam,sgd", "training.momentum=0,0.9", root=tmp_path
    )
    assert message.endswith("got 0.9 (in 1 of 4 runs, first in optimizer=adam,momentum=0.9)")


def test_two_ways_to_write_one_experiment_are_a_mistake(tmp_path):
    message = refused(ConfigError, "method.strength=1,1.0", root=tmp_path)
    assert message == ("strength=1 and strength=1.0 are the same experiment: leave one out")


def test_a_sweep_of_nothing_is_refused(tmp_path):
    assert "such as seed=1..5" in refused(ConfigError, root=tmp_path)


def test_a_config_that_is_not_there_is_told_once_with_the_nearest_name(tmp_path):
    message = refused(ConfigError, "seed=1..9", config="digit_smoke", root=tmp_path)
    assert message == 'digit_smoke: there is no such file; did you mean "digits_smoke"?'


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "file").touch()
    message = refused(RunError, "seed=1", directory=tmp_path / "file")
    assert message.endswith("file is a file: name a folder for the sweep with --out")
    (experiment,) = (run.experiment for run in plan_sweep(CONFIG, ["seed=1"]).runs)
    fake_child.write(experiment, tmp_path / "run")
    message = refused(RunError, "seed=1", directory=tmp_path / "run")
    assert message.endswith("run is a run: name another folder for the sweep with --out")


@pytest.fixture
def begun(tmp_path):
    """A sweep whose first run is finished and whose second was stopped."""
    sweep = plan_sweep(CONFIG, ["seed=1..3"], directory=tmp_path / "sweep")
    for run, status in zip(sweep.runs, ("finished", "unfinished"), strict=False):
        fake_child.write(run.experiment, run.folder, status)
    return sweep


def states(folder, *overrides, config=CONFIG):
    return [run.state for run in plan_sweep(config, overrides, directory=folder).runs]


def test_what_is_finished_is_left_and_what_was_stopped_is_done_again(begun):
    assert states(begun.folder, "seed=1..3") == ["finished", "again", "new"]
    assert states(begun.folder, "seed=2..3", "device=cpu") == ["again", "new"]


def test_a_key_that_is_added_keeps_the_runs_that_are_there(begun):
    """A run is its resolved config, whatever its directory is called."""
    rate = begun.runs[0].experiment.training.learning_rate
    sweep = plan_sweep(
        CONFIG, ["seed=1..2", f"training.learning_rate={rate},0.5"], directory=begun.folder
    )
    assert [(run.name, run.state) for run in sweep.runs] == [
        ("seed=1", "finished"),
        ("seed=1,learning_rate=0.5", "new"),
        ("seed=2", "again"),
        ("seed=2,learning_rate=0.5", "new"),
    ]
    assert dict(sweep.runs[0].setting) == {"seed": "1", "training.learning_rate": str(rate)}
    assert states(begun.folder, "seed=1", "threads=2") == ["finished"]


def test_shards_are_disjoint_and_together_everything(tmp_path):
    overrides = ["seed=1..3", "method.strength=0.1,1,10"]
    whole = {run.name for run in plan_sweep(CONFIG, overrides, directory=tmp_path).runs}
    for parts in (1, 2, 4, 12):
        found = [
            run.name
            for i in range(1, parts + 1)
            for run in plan_sweep(
                CONFIG, overrides, directory=tmp_path, shard=f"{i}/{parts}"
            ).waiting
        ]
        assert len(found) == len(whole)
        assert set(found) == whole


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("0/4", "shard 0/4: shards count from 1: expected 1/4 to 4/4"),
        ("5/4", "shard 5/4: shards count from 1: expected 1/4 to 4/4"),
        ("1", "shard 1: expected i/n, such as 1/4 for the first of four"),
        ("1/0", "expected i/n"),
        ("a/b", "expected i/n"),
        ("-1/4", "expected i/n"),
    ],
)
def test_shards_that_are_none_are_refused(shard, message):
    assert message in refused(ConfigError, "seed=1..9", shard=shard)


def test_a_run_killed_at_its_very_beginning_is_done_again(begun):
    folder = begun.runs[1].folder
    (folder / "metrics.json").unlink()
    (folder / "history.db-wal").touch()
    assert states(begun.folder, "seed=1..3") == ["finished", "again", "new"]
    (folder / "notes.txt").touch()
    message = refused(RunError, "seed=1..3", directory=begun.folder)
    assert message.endswith("seed=2 is not a run: move it, or name another folder with --out")
    shutil.rmtree(folder)
    folder.touch()
    assert "seed=2 is a file: move it" in refused(RunError, "seed=2", directory=begun.folder)


def test_a_finished_run_of_another_config_is_refused_key_by_key(begun, tmp_path):
    other = tmp_path / "other.yaml"
    text = Path(CONFIG).read_text(encoding="utf-8")
    other.write_text(text.replace("0.003", "0.004").replace("prune: {ratio: 0.05}", "prune: null"))
    message = refused(RunError, "seed=1..3", config=other, directory=begun.folder)
    (line,) = message.splitlines()  # the one that was stopped is in nobody's way
    assert "seed=1 is finished, with another config: " in line
    assert "training.learning_rate is 0.003 there and 0.004 here" in line
    assert "method.prune.ratio is 0.05 there and absent here" in line
    assert line.endswith("Name another folder with --out, or remove this run")


def test_many_runs_in_the_way_are_not_all_told(tmp_path):
    sweep = plan_sweep(CONFIG, ["seed=1..9"], directory=tmp_path)
    for run in sweep.runs:
        run.folder.touch()
    message = refused(RunError, "seed=1..9", directory=tmp_path)
    assert len(message.splitlines()) == 6
    assert message.endswith("and more, 9 in all")


def test_a_finished_run_whose_config_is_gone_is_not_taken_for_this_one(begun):
    (begun.runs[0].folder / "config.yaml").unlink()
    message = refused(RunError, "seed=1", directory=begun.folder)
    assert "seed=1 is finished, but its config cannot be read: " in message


def test_a_task_free_run_is_resumed_from_its_checkpoint(tmp_path):
    config = "configs/task_free_smoke.yaml"
    (run,) = plan_sweep(config, ["seed=1"], directory=tmp_path).runs
    fake_child.write(run.experiment, run.folder, "unfinished")
    assert states(tmp_path, "seed=1", config=config) == ["again"]
    (run.folder / "checkpoint").mkdir()
    assert states(tmp_path, "seed=1", config=config) == ["resumed"]
    data = json.loads((run.folder / "metrics.json").read_text())
    (run.folder / "metrics.json").write_text(json.dumps(data | {"status": "finished"}))
    assert states(tmp_path, "seed=1", config=config) == ["finished"]
