"""Openers that are given something else than a path: the fitting error, in one sentence."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.config import config_leaves, load_config
from growmas.data.files import read_npz
from growmas.data.tables import read_table
from growmas.report import read_study, read_summary, write_figures, write_report
from growmas.runs import (
    RunDirectory,
    find_history,
    find_run,
    list_runs,
    read_result,
    read_trace,
)
from growmas.sweep import plan_sweep, plan_tuning, read_grid, run_sweep, run_tuning
from growmas.sweep.collecting import collect_runs


def structure() -> gm.Structure:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    return gm.Structure(model, torch.zeros(1, 2))


def manager() -> gm.StructuralManager:
    found = structure()
    return gm.StructuralManager(found, mas=gm.MAS(found.model))


def sweep(**places: Any) -> Any:
    if places.get("directory", "") is None:  # the default
        places = {"root": None}
    return plan_sweep("digits_smoke", ["seed=1,2"], **places)


def tuning(**places: Any) -> Any:
    if places.get("directory", "") is None:
        places = {"root": None}
    tune = "tune={trials: 1, keys: {method.strength: [0.1, 1]}}"
    return plan_tuning("digits_smoke", ["stream.validation=0.1", tune], **places)


OPENERS: dict[str, tuple[type[gm.GrowmasError], Callable[[Any], Any]]] = {
    "TopologyHistory": (gm.HistoryError, gm.TopologyHistory),
    "TopologyTracker": (gm.HistoryError, lambda path: gm.TopologyTracker(structure(), path)),
    "resume": (gm.HistoryError, lambda path: gm.TopologyTracker.resume(structure(), path)),
    "attach": (gm.HistoryError, lambda path: gm.TopologyTracker.attach(nn.Linear(2, 2), path)),
    "save": (gm.CheckpointError, lambda path: gm.save(path, structure=structure())),
    "load": (
        gm.CheckpointError,
        lambda path: gm.load(path, model=nn.Linear(2, 2), example_inputs=torch.zeros(1, 2)),
    ),
    "load_manager": (gm.CheckpointError, lambda path: gm.load_manager(path, manager())),
    "load_run": (gm.RunError, gm.load_run),
    "run_experiment": (
        gm.RunError,
        lambda path: gm.run_experiment(load_config("digits_smoke"), path),
    ),
    "load_config": (gm.ConfigError, load_config),
    "config_leaves": (gm.ConfigError, config_leaves),
    "list_runs": (gm.RunError, list_runs),
    "read_result": (gm.RunError, read_result),
    "collect_runs": (gm.RunError, lambda path: collect_runs([path])),
    "collect_runs root": (gm.RunError, lambda path: collect_runs(["one"], path)),
    "read_trace": (gm.RunError, read_trace),
    "RunDirectory": (gm.RunError, RunDirectory),
    "find_run": (gm.RunError, lambda path: find_run(path, "runs")),
    "find_run root": (gm.RunError, lambda path: find_run("one", path)),
    "find_history": (gm.RunError, lambda path: find_history(path, "runs")),
    "plan_sweep": (gm.ConfigError, lambda path: plan_sweep(path, ["seed=1,2"])),
    "plan_sweep directory": (gm.RunError, lambda path: sweep(directory=path)),
    "plan_sweep root": (gm.RunError, lambda path: sweep(root=path)),
    "plan_tuning": (gm.ConfigError, plan_tuning),
    "plan_tuning directory": (gm.RunError, lambda path: tuning(directory=path)),
    "plan_tuning root": (gm.RunError, lambda path: tuning(root=path)),
    "write_report": (gm.RunError, lambda path: write_report([], path)),
    "write_figures": (gm.RunError, lambda path: write_figures([], path)),
}


@pytest.mark.parametrize("given", [3, None, ["a"], b"a"], ids=repr)
@pytest.mark.parametrize("opener", OPENERS)
def test_what_is_not_a_path_is_refused_in_one_sentence(opener: str, given: object) -> None:
    error, call = OPENERS[opener]
    words = rf"^expected the path of an? [a-z ]+, got {type(given).__name__}$"
    with pytest.raises(error, match=words):
        call(given)


def test_what_is_not_an_experiment_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(gm.ConfigError, match=r"^expected an Experiment, .* got str$"):
        gm.run_experiment("digits_smoke", tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["seed=1", 3, None, b"seed=1", {"seed": 1}, [3]], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda given: load_config("digits_smoke", given),
        lambda given: plan_sweep("digits_smoke", given),
        lambda given: plan_tuning("digits_smoke", given),
        lambda given: plan_sweep("digits_smoke", ["seed=1,2"], engine_options=given),
        read_grid,
    ],
    ids=["load_config", "plan_sweep", "plan_tuning", "engine_options", "read_grid"],
)
def test_overrides_are_a_list_of_texts(call: Callable[[Any], Any], given: object) -> None:
    with pytest.raises(gm.ConfigError, match=r"^expected a list of [a-z ]+, each key=value, got "):
        call(given)


@pytest.mark.parametrize("given", ["code", 3, b"code"], ids=repr)
def test_folders_of_modules_are_a_list(given: Any) -> None:
    with pytest.raises(gm.ConfigError, match=r"^imports: expected a list of folders, got "):
        load_config("digits_smoke", imports=given)


@pytest.mark.parametrize("given", [3, None, b"1/2", ["1/2"]], ids=repr)
def test_a_shard_is_a_text(given: Any) -> None:
    if given is None:  # the default: all runs
        assert len(plan_sweep("digits_smoke", ["seed=1,2"], shard=None).mine) == 2
        return
    with pytest.raises(gm.ConfigError, match=r"^shard .*: expected i/n"):
        plan_sweep("digits_smoke", ["seed=1,2"], shard=given)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (run_sweep, "expected a Sweep, as plan_sweep returns, got str"),
        (run_tuning, "expected a Tuning, as plan_tuning returns, got str"),
        (lambda given: read_summary(given, "name"), "expected an open TopologyHistory, got str"),
        (lambda given: read_study(given, "name"), "expected a Collection, .* got str"),
        (lambda given: write_report(given, "x.html"), "expected a list of runs, .* got 'runs/x'"),
        (lambda _: write_report([], "x.html"), "there is no run to write a report about"),
        (lambda _: write_figures([], "figures"), "there is no run to write a report about"),
    ],
)
def test_a_path_is_not_what_was_read_from_it(
    call: Callable[[Any], Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(gm.GrowmasError, match=f"^{words}"):
        call("runs/x")
    assert not [*tmp_path.iterdir()]


STRANGE = {"device": "/dev/zero", "pipe": "pipe", "socket": "socket"}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_has_no_end_is_not_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading /dev/zero fills the memory, and opening a pipe waits for a writer."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        path = Path(STRANGE[kind])
        words = rf"cannot be read: it is a {kind}, not a file"
        with pytest.raises(gm.ConfigError, match=rf"^{path}: {words}: save the config as a file"):
            load_config(path)
        with pytest.raises(gm.ConfigError, match=words):
            plan_sweep(path, ["seed=1,2"])
        for read in (read_npz, read_table):
            with pytest.raises(gm.DataError, match=words):
                read(path)
        with pytest.raises(gm.HistoryError, match=r"^no topology history at "):
            gm.TopologyHistory(path)


@pytest.mark.parametrize("given", ["runs/x", Path("x"), 3, None], ids=repr)
def test_runs_are_a_list(given: Any) -> None:
    with pytest.raises(gm.RunError, match=r"^expected a list of runs and sweeps, got "):
        collect_runs(given)


def test_folders_are_named_by_texts_as_well(tmp_path: Path) -> None:
    assert list_runs(str(tmp_path)) == ()
    with pytest.raises(gm.RunError, match="has no metrics"):
        read_result(str(tmp_path))
