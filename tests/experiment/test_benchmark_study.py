"""The benchmark study: its cells are valid configs, known by what they resolve to."""

import importlib
import sys
from pathlib import Path

import pytest

from growmas.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "experiments" / "benchmark"
PARTS = ("scenarios", "methods", "front", "front_figure", "report", "cells", "study")
PUBLISHED = {
    *("finetune", "joint", "mas", "ewc", "online_ewc", "si", "lwf", "er", "derpp", "packnet"),
    *("hat", "icarl", "slda", "ranpac", "l2_init", "separate", "gaussian", "growmas"),
}


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("study")
    finally:
        sys.path.remove(str(FOLDER))
        for name in PARTS:  # other studies have modules of these names too
            sys.modules.pop(name, None)


def test_every_method_is_in_a_scenario_that_it_is_for(study):
    assert {method for each in study.SCENARIOS for method in each.settings} >= PUBLISHED
    for scenario in study.SCENARIOS:
        seen = set()
        last = list(scenario.settings)[-5:]
        for method in last:
            _, cell = study.cell_of(scenario, scenario.settings[method][0], ["seed=1"])
            seen.add(cell)
        assert len(seen) == len(last)


def test_every_method_of_a_scenario_has_as_many_settings(study):
    for scenario in study.SCENARIOS:
        counts = {len([s[i] for i in scenario.tried]) for s in scenario.settings.values()}
        assert counts == {len(scenario.tried)}


def test_a_cell_is_known_by_what_it_resolves_to(study):
    scenario = study.BY_NAME["fashion-class"]
    plain, *_ = scenario.settings["finetune"]
    _, one = study.cell_of(scenario, plain, ["seed=1"])
    assert study.cell_of(scenario, [*plain, "training.epochs=5"], ["seed=1"])[1] == one
    assert study.cell_of(scenario, [*plain, "training.epochs=6"], ["seed=1"])[1] != one
    assert study.cell_of(scenario, plain, ["seed=2"])[1] != one


def test_a_method_in_a_scenario_it_is_not_for_is_refused(study):
    packnet = study.BY_NAME["fashion-task"].settings["packnet"][0]
    with pytest.raises(ConfigError, match="expected a method for scenario class"):
        study.cell_of(study.BY_NAME["fashion-class"], packnet, ["seed=1"])
    for only in ("nowhere", "fashion-class/packnet", "fashion-class/mas/one"):
        with pytest.raises(SystemExit):
            study.wanted(only)


def test_results_are_read_again(study, tmp_path):
    path = tmp_path / "results.jsonl"
    study.Results(path).add({"cell": "a", "seed": 1})
    study.Results(path).add({"cell": "b", "seed": 2})
    assert set(study.Results(path).rows) == {"a", "b"}


def test_cells_that_are_done_are_run_again_and_compared(study, tmp_path, monkeypatch, capsys):
    scenario = study.BY_NAME["flights"]
    results = study.Results(tmp_path / "results.jsonl")
    for i in scenario.tried:
        setting = scenario.settings["mas"][i]
        _, cell = study.cell_of(scenario, setting, study.HELD_OUT)
        row = {"setting": setting, "tuning": True, "result": {"validation": [0.1 * i]}}
        results.add({"cell": cell, **row})
    best = scenario.settings["mas"][max(scenario.tried)]
    _, cell = study.cell_of(scenario, best, ["seed=2"])
    results.add({"cell": cell, "tuning": False, "result": {"accuracy": [[0.5], [0.25, 0.75]]}})
    monkeypatch.setattr(study, "Results", lambda: results)
    monkeypatch.setattr(study, "outcome", lambda experiment: {"result": {"accuracy": [[0.625]]}})
    study.again("flights/mas")
    assert capsys.readouterr().out.split() == ["flights", "mas", "seed", "2", "0.5000", "0.6250"]
