"""Openers that are given something else than a path: the fitting error, in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.config import load_config
from growmas.report import write_figures, write_report


def structure() -> gm.Structure:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    return gm.Structure(model, torch.zeros(1, 2))


def manager() -> gm.StructuralManager:
    found = structure()
    return gm.StructuralManager(found, mas=gm.MAS(found.model))


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
