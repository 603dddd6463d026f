"""Replacement in configs: task-aware and task-free runs, and settings out of range."""

from pathlib import Path
from typing import Any

import pytest

import growmas as gm
from growmas.config import load_config
from growmas.errors import ConfigError
from growmas.experiment import run_experiment

TEXT = """
name: small
stream: {{kind: {stream}, source: digits, tasks: 5, limit: 40}}
model: {{kind: mlp, hidden: [32]}}
method: {{kind: growmas, strength: 0.1, init: paired, {method}}}
training: {{epochs: 2, learning_rate: 0.01, batch_size: 8}}
"""


def write(folder: Path, method: str, stream: str = "split, scenario: domain, tasks: 5") -> Path:
    path = folder / "small.yaml"
    text = TEXT.format(method=method, stream="split, scenario: domain")
    path.write_text(text, encoding="utf-8")
    return path


def test_a_run_replaces_units_and_writes_them_to_its_history(tmp_path: Path):
    replace = "grow: {units: 2}, replace: {rate: 0.01, maturity: 5, every: 5, guard: null}"
    path = write(tmp_path, replace + ", context: {kind: gaussian, per: task}")
    result = run_experiment(load_config(path), tmp_path / "run")
    assert result.status == "finished"
    with gm.TopologyHistory(tmp_path / "run" / "history.db") as history:
        causes = [e.cause for e in history.events() if e.cause.get("policy") == "ReplaceLowUtility"]
        assert causes
        assert sum(cause["renewals"] for cause in causes) > len(causes)


def test_a_task_free_run_replaces_units(tmp_path: Path):
    path = write(tmp_path, "replace: {rate: 0.02, maturity: 5, guard: null}")
    stream = "stream={kind: task_free, of: split, source: digits, tasks: 2, steps_per_task: 40}"
    result = run_experiment(load_config(path, [stream, "training.epochs=1"]), tmp_path / "run")
    assert result.status == "finished"


def scalars_of(path: Path) -> list[Any]:
    with gm.TopologyHistory(path / "history.db") as history:
        return [each for each in history.scalars() if "dormant" in each.values]


def test_signals_are_written_every_few_steps_and_change_nothing(tmp_path: Path):
    path = write(tmp_path, "grow: {units: 2}, context: {kind: gaussian, per: task}")
    plain = run_experiment(load_config(path), tmp_path / "plain")
    config = load_config(path, ["signals={every: 5, samples: 40}"])
    result = run_experiment(config, tmp_path / "run")
    assert result.accuracy == plain.accuracy
    found = scalars_of(tmp_path / "run")
    assert [each.step for each in found][:5] == [5, 10, 15, 20, 25]
    assert {each.epoch for each in found} == {1, 2}
    assert "newborn/fc1" in found[-1].values
    assert {"rank_share", "effective_rank/fc1", "utility_q10/fc1"} < found[0].values.keys()
    assert not scalars_of(tmp_path / "plain")


def test_signals_of_a_task_free_run(tmp_path: Path):
    path = write(tmp_path, "grow: {units: 2}")
    stream = "stream={kind: task_free, of: split, source: digits, tasks: 2, steps_per_task: 20}"
    more = [stream, "training.epochs=1", "signals={every: 8}"]
    run_experiment(load_config(path, more), tmp_path / "run")
    assert [each.step for each in scalars_of(tmp_path / "run")] == [8, 16, 24, 32, 40]


@pytest.mark.parametrize("wrong", ["{every: 0}", "{samples: 1}", "true"])
def test_wrong_signals_name_their_key(tmp_path: Path, wrong: str):
    with pytest.raises(ConfigError, match="signals"):
        load_config(write(tmp_path, "grow: {units: 2}"), [f"signals={wrong}"])


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ("{threshold: 2}", "method.replace.threshold: expected a share of a layer's mean utility"),
        ("{rate: 1.5}", "method.replace.rate: expected a share of units per step"),
        ("{maturity: -1}", "method.replace.maturity: expected a number of steps"),
        ("{utility: size}", "method.replace.utility: expected rms, activation or contribution"),
        ("{every: 0}", "method.replace.every: expected a number of steps"),
        ("{guard: -1}", "method.replace.guard: expected a share of a layer's mean need"),
        ("{init: split}", "method.replace.init: expected paired or zero_out"),
        ("true", "method.replace: expected a mapping such as {threshold: 0.2}, or null"),
    ],
)
def test_settings_out_of_range_name_their_key(tmp_path: Path, replace: str, message: str):
    path = write(tmp_path, "context: {kind: gaussian, per: task}")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [f"method.replace={replace}"])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("{kind: cbp, rate: 0}", "method.rate: expected a share of units per step, above 0"),
        ("{kind: redo, threshold: 0}", "method.threshold: expected a share of a layer's mean"),
        ("{kind: shrink_perturb, shrink: 1}", "method.shrink: expected a share, 0 or more"),
        ("{kind: upgd, noise: -1}", "method.noise: expected a size of the noise"),
        ("{kind: growmas, init: pairs}", "method.init: expected zero_out, paired or split"),
    ],
)
def test_settings_of_peers_name_their_key(tmp_path: Path, method: str, message: str):
    path: Any = write(tmp_path, "context: {kind: gaussian, per: task}")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [f"method={method}"])
    assert message in str(caught.value)


@pytest.mark.parametrize("method", ["{kind: cbp}", "{kind: redo}", "{kind: growmas, replace: {}}"])
def test_compiled_steps_do_not_show_activations(tmp_path: Path, method: str):
    path = write(tmp_path, "context: {kind: gaussian, per: task}")
    overrides = [f"method={method}", "training.compile=true"]
    if "growmas" in method:
        overrides.append("method.context={kind: gaussian, per: task}")
    with pytest.raises(
        ConfigError, match=r"training\.compile: expected false, as the method looks"
    ):
        load_config(path, overrides)
