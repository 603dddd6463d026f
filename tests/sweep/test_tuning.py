"""Tuning: trials on one seed, judged on validation data; the best on other seeds."""

from pathlib import Path

import fake_child
import pytest

from growmas.config import load_config
from growmas.errors import ConfigError, RunError
from growmas.runs import read_result
from growmas.sweep import plan_tuning, run_tuning
from growmas.sweep.summary import read_runs

CONFIG = Path(__file__).parents[2] / "configs" / "digits_smoke.yaml"
TUNE = (
    "tune={keys: {training.learning_rate: {low: 1e-4, high: 1e-1, log: true}, "
    "training.optimizer: [adam, sgd]}, trials: 6, together: 3, seeds: [1, 2]}"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("growmas.sweep.work._CHILD", "fake_child")


class Watcher:
    """Observer that interrupts the search after some runs."""

    def __init__(self, most=100):
        self.ran = []
        self.most = most

    def begun(self, name):
        pass

    def ended(self, run):
        self.ran.append(run.name)
        if len(self.ran) == self.most:
            raise KeyboardInterrupt


def tune(folder, *overrides, most=100):
    watcher = Watcher(most)
    tuning = plan_tuning(CONFIG, overrides, directory=folder)
    return run_tuning(tuning, jobs=4, observer=watcher), watcher.ran


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


@pytest.mark.usefixtures("optuna")
class TestSearch:
    def test_the_best_on_validation_data_is_reported_on_other_seeds(self, tmp_path):
        tuned, ran = tune(tmp_path / "tuned", TUNE)
        folder = tmp_path / "tuned"
        assert len(tuned.trials) == 6
        assert tuned.best.validation == max(trial.validation for trial in tuned.trials)
        assert {trial.run.result.seed for trial in tuned.trials} == {0}
        assert [run.result.seed for run in tuned.report] == [1, 2]
        assert all(read_result(folder / run.name).validation == [] for run in tuned.report)
        best = load_config(folder / "best.yaml")
        rate = float(tuned.best.values["training.learning_rate"])
        assert best.training.learning_rate == rate
        assert (best.tune, best.stream.validation) == (None, 0)
        for run in (*tuned.report, tuned.best.run):
            place = folder / "trials" if run is tuned.best.run else folder
            config = load_config(place / run.name / "config.yaml")
            assert config.training.learning_rate == rate
            assert config.stream.validation == (0.1 if run is tuned.best.run else 0)
        assert [run.name for run in read_runs(folder)] == [run.name for run in tuned.report]
        assert len(read_runs(folder / "trials")) == len({*ran} - {run.name for run in tuned.report})

        again, nothing = tune(folder, TUNE)
        assert nothing == []
        assert again == tuned

        stopped = tmp_path / "stopped"
        with pytest.raises(KeyboardInterrupt):
            tune(stopped, TUNE, most=4)
        continued, rest = tune(stopped, TUNE)
        assert [trial.values for trial in continued.trials] == [t.values for t in tuned.trials]
        assert len(rest) < len(ran)
        assert continued.best.values == tuned.best.values

    def test_a_trial_that_fails_counts_as_the_worst(self, tmp_path):
        text = (
            f"tune={{keys: {{training.epochs: [1, {fake_child.REFUSED}]}}, trials: 4, seeds: [1]}}"
        )
        tuned, _ = tune(tmp_path, text, "tune.sampler=random")
        assert tuned.best.values == {"training.epochs": "1"}
        failed = [trial for trial in tuned.trials if trial.validation is None]
        assert failed
        assert failed[0].run.message == "there is no such luck\nand no other"
        with pytest.raises(RunError, match="none of the 4 trials was finished; the first: there"):
            tune(tmp_path / "b", text.replace("[1, ", "["))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["tune={keys: {training.epochs: [1, -1]}}"],
            "tune.keys.training.epochs: training.epochs: expected a whole number of epochs for "
            "each task, at least 1, got -1",
        ),
        (
            ["tune={keys: {training.epoch: {low: 1, high: 2}}}"],
            'tune.keys.training.epoch: training.epoch: unknown key; did you mean "epochs"?',
        ),
        (["tune={keys: {training.epochs: [1]}, trails: 3}"], 'did you mean "trials"?'),
        (["tune={keys: {stream.limit: [1]}}"], "stream.limit cannot be tuned: expected keys below"),
        (["tune={keys: {training.epochs: 5}}"], "training.epochs: expected a list of values, or a"),
        (
            ["tune={keys: {training.epochs: [1]}, seeds: [0, 1]}"],
            "tune: expected seeds other than the 0 of tune.seed, got [0, 1]",
        ),
        ([TUNE, "seed=1..3"], "override seed=1..3: give the seeds as tune.seeds"),
        (
            [TUNE, "training.epochs=1,2"],
            "override training.epochs=1,2: expected one value, as a search compares values of "
            "tune.keys",
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, overrides, message):
    with pytest.raises(ConfigError) as caught:
        plan_tuning(CONFIG, overrides, directory=tmp_path)
    (line,) = str(caught.value).splitlines()
    assert message in line


def test_a_stream_without_validation_data_is_refused():
    with pytest.raises(ConfigError, match=r"as stream\.kind is task_free: it has no"):
        plan_tuning("task_free_smoke", ["tune={keys: {training.learning_rate: [0.1, 0.2]}}"])


def test_optuna_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"not installed: pip install 'growmas\[optuna\]'"):
        plan_tuning(CONFIG, [TUNE])


def test_a_config_without_a_search_is_an_ordinary_sweep():
    assert plan_tuning(CONFIG, ["seed=1..3"]) is None
    assert plan_tuning(CONFIG, [TUNE, "tune=null", "seed=1..3"]) is None
