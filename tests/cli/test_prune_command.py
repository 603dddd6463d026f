"""growmas prune: from a network and data to a file that a fresh network loads."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from growmas.cli.app import app
from growmas.errors import GrowmasError
from growmas.experiment.slimming import load_slim

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width=16, outputs=3):
        super().__init__(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, outputs))

class Map(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1))

class Alone(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "slimmed_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("slimmed_net", None)
    import slimmed_net

    torch.manual_seed(0)
    net = slimmed_net.Net()
    save_file(net.state_dict(), "net.safetensors")
    x = torch.randn(300, 6)
    labels = net(x).argmax(1).numpy()
    np.savez("data.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    np.savez("bare.npz", x=x.numpy())
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, ["prune", *args])


def test_a_slim_network_is_written_and_loaded(place):
    result = run(
        "slimmed_net:Net", "--data", "data.npz", "--weights", "net.safetensors", "--flops", "0.5",
        "--distil", "20", "-o", "slim.safetensors", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    before, repaired, polished = json.loads(result.stdout)
    assert before["accuracy"] == before["agreement"] == 1.0
    assert repaired["flops"] <= 0.5 * before["flops"]
    assert polished["parameters"] == repaired["parameters"] < before["parameters"]
    import slimmed_net

    fresh = slimmed_net.Net()
    structure = load_slim(fresh, torch.zeros(2, 6), place / "slim.safetensors")
    assert structure.parameters == repaired["parameters"]
    with np.load("data.npz") as file:
        given = fresh(torch.from_numpy(file["x_test"])).argmax(1)
        assert float((given.numpy() == file["y_test"]).mean()) == pytest.approx(
            polished["accuracy"]
        )


def test_without_labels_agreement_is_shown(place):
    result = run("slimmed_net:Net", "--data", "bare.npz", "--ratio", "0.25", "--ascii")
    assert result.exit_code == 0, result.output
    assert "pruned and repaired" in result.stdout
    assert "| -" in result.stdout.replace("|        -", "| -")


def test_one_number_per_sample_has_neither_accuracy_nor_agreement(place):
    args = ("--arg", "outputs=1", "--ratio", "0.25", "--distil", "3", "--json")
    result = run("slimmed_net:Net", "--data", "bare.npz", *args)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert len(measured) == 3
    assert {each["agreement"] for each in measured} == {None}


def test_an_answer_for_each_pixel_has_agreement_alone(place):
    x, y = torch.rand(60, 1, 5, 6), torch.arange(60) % 3
    np.savez("images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    args = ("--ratio", "0.25", "--distil", "2", "--json")
    result = run("slimmed_net:Map", "--data", "images.npz", *args)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert {each["accuracy"] for each in measured} == {None}
    assert all(each["agreement"] > 0.3 for each in measured)


def test_a_size_may_be_a_number(place):
    result = run("slimmed_net:Net", "--data", "bare.npz", "--parameters", "100", "--json")
    before, after = json.loads(result.stdout)
    assert before["parameters"] == 163
    assert 80 < after["parameters"] <= 100


@pytest.mark.parametrize(
    ("words", "model", "args"),
    [
        ("there is no folder no", "slimmed_net:Net", ["--ratio", "0.5", "-o", "no/a.safetensors"]),
        ("reaches the output", "slimmed_net:Alone", ["--ratio", "0.5"]),
        ("--ratio 0.01 removes no unit", "slimmed_net:Net", ["--ratio", "0.01"]),
        ("no multiple of", "slimmed_net:Net", ["--ratio", "0.5", "--round-to", "32"]),
        ("one of --flops", "slimmed_net:Net", []),
        ("module:name", "slimmed_net", ["--ratio", "0.5"]),
        ("there is no module", "no_such:Net", ["--ratio", "0.5"]),
        ("Net", "slimmed_net:Nett", ["--ratio", "0.5"]),
        (".safetensors, .pt2 or .onnx", "slimmed_net:Net", ["--ratio", "0.5", "-o", "x.pt"]),
        ("key=value", "slimmed_net:Net", ["--ratio", "0.5", "--arg", "width"]),
        ("cannot be called with args", "slimmed_net:Net", ["--ratio", "0.5", "--arg", "w=1"]),
        ("at least one unit", "slimmed_net:Net", ["--ratio", "1"]),
        ("neither a file, a folder", "slimmed_net:Net", ["--ratio", "0.5", "--data", "mnist"]),
    ],
)
def test_mistakes_are_one_message(place, words, model, args):
    result = run(model, *([] if "--data" in args else ["--data", "bare.npz"]), *args)
    assert isinstance(result.exception, GrowmasError)
    assert words in str(result.exception)
