"""FLOPs in histories: of one sample; those of earlier versions say that they are of a batch."""

import sqlite3
from pathlib import Path

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.history import TopologyHistory, TopologyTracker
from growmas.terminal.network import summarise
from growmas.terminal.run_diff import summarise as summarise_runs


@pytest.fixture
def structure() -> gm.Structure:
    return gm.Structure(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.rand(8, 4)
    )


def write(structure: gm.Structure, path: Path, *, old: bool) -> Path:
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot("a")
    if old:
        with sqlite3.connect(path) as file:
            file.execute("DELETE FROM meta WHERE key = 'flops_of'")
            file.execute("UPDATE sizes SET flops = 8 * flops")
    return path


@pytest.mark.parametrize(
    ("old", "unit", "flops"), [(False, "sample", 72), (True, "example inputs", 576)]
)
def test_the_unit_is_known(
    structure: gm.Structure, tmp_path: Path, old: bool, unit: str, flops: int
) -> None:
    path = write(structure, tmp_path / "run.db", old=old)
    with TopologyHistory(path) as history:
        assert (history.flops_of, history.sizes()["a"].flops) == (unit, flops)
        summary = summarise(history)
        assert (summary.flops_of, summary.flops) == (unit, flops)


def test_runs_are_compared_in_the_same_unit_only(structure: gm.Structure, tmp_path: Path) -> None:
    new = TopologyHistory(write(structure, tmp_path / "new.db", old=False))
    old = TopologyHistory(write(structure, tmp_path / "old.db", old=True))
    with new, old:
        both = summarise_runs(new, new, names=("a", "b"))
        mixed = summarise_runs(new, old, names=("a", "b"))
    assert "FLOPs" in {number.name for number in both.numbers}
    assert "FLOPs" not in {number.name for number in mixed.numbers}


def test_an_old_history_goes_on_without_its_numbers(
    structure: gm.Structure, tmp_path: Path
) -> None:
    path = write(structure, tmp_path / "run.db", old=True)
    with TopologyTracker.resume(structure, path) as tracker:
        tracker.snapshot("b")
    with TopologyHistory(path) as history:
        assert history.flops_of == "sample"
        sizes = history.sizes()
        assert (sizes["a"].flops, sizes["b"].flops) == (None, 72)
        assert history.layers("a")[0].flops is None
