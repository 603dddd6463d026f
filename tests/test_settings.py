"""Numbers in settings, and files that are replaced completely or not at all."""

from pathlib import Path

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.atomic_write import atomic_write
from growmas.config import load_config
from growmas.errors import DataError, GrowmasError, RunError
from growmas.settings import is_number
from growmas.terminal.naming import read_unit


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), float("inf"), float("nan"), True, "1", None]
)
def test_what_is_not_a_finite_number(value: object) -> None:
    assert not is_number(value)


@pytest.mark.parametrize("value", [0, -1, 0.5, 10**300, -1e308])
def test_what_is_a_finite_number(value: float) -> None:
    assert is_number(value)


def test_numbers_beyond_all_measure_are_refused_in_words(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(GrowmasError, match="strength"):
        gm.MAS(net, strength=10**400)
    teacher = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(DataError, match="expected a whole number of steps"):
        gm.distil(net, teacher, [torch.rand(2, 2)], steps=10**20)
    tracked = gm.TopologyTracker(gm.Structure(net, torch.rand(2, 2)), tmp_path / "run.db")
    with pytest.raises(GrowmasError, match=r"accuracy=1000.* is not a number"):
        tracked.snapshot(task="a", metrics={"accuracy": 10**400})
    tracked.close()
    with pytest.raises(GrowmasError, match="expected numbers for low and high"):
        load_config(
            "digits_smoke",
            [f"tune={{keys: {{training.learning_rate: {{low: 1, high: {10**400}}}}}}}"],
        )
    with pytest.raises(GrowmasError, match="does not name a unit"):
        read_unit("fc1#99999999999999999999")


@pytest.mark.parametrize("name", [".", "..", "folder"])
def test_a_folder_is_not_a_file_to_write(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / ".folder.new").write_text("mine")
    monkeypatch.chdir(tmp_path)
    message = "is a folder: give the name of a file"
    with pytest.raises(RunError, match=message), atomic_write(Path(name)):
        pass
    assert (tmp_path / ".folder.new").read_text() == "mine"
