"""Mistakes in the code and files of the user, as a run meets them: one message, nothing written."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.experiment import run_experiment

CONFIG = """name: mine
stream:
  kind: split
  source: {kind: npz, path: good.npz}
  tasks: [[0], [1, 2]]
  scenario: class
model: {kind: mlp, hidden: [4]}
method: {kind: finetune}
training: {epochs: 1, batch_size: 16, learning_rate: 0.01}
"""
CODE = """import growmas
import torch


class Number(growmas.Method):
    def loss(self, inputs, labels, task):
        return 3.0


class Vector(growmas.Method):
    def loss(self, inputs, labels, task):
        return super().loss(inputs, labels, task).expand(4)


class Constant(growmas.Method):
    def loss(self, inputs, labels, task):
        return torch.zeros(())


class Raises(growmas.Method):
    def loss(self, inputs, labels, task):
        return self.structure.model(inputs[:, :2], 0)


class RaisesLater(growmas.Method):
    def end_task(self, task):
        raise KeyError("mine")


class Logits(growmas.Method):
    def predict(self, inputs, task):
        return self.structure.model(inputs, 0)


class Nothing(growmas.Method):
    def predict(self, inputs, task):
        return None


class Plain(growmas.Method):
    pass


class Stops(growmas.Method):
    def __init__(self, structure):
        raise SystemExit(3)


class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))


class Inside(torch.nn.Module):
    def __init__(self):
        self.fc = torch.nn.Linear(6, 3)


def stops():
    raise SystemExit(3)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config, data, and code of the user; it is not the working directory."""
    folder = tmp_path / "mine"
    folder.mkdir()
    random = np.random.default_rng(0)
    np.savez(folder / "good.npz", x=random.normal(size=(60, 6)), y=np.arange(60) % 3)
    rows = "".join(f"{a:.3f},{b:.3f},{i % 3}\n" for i, (a, b) in enumerate(random.random((40, 2))))
    (folder / "good.csv").write_text("a,b,y\n" + rows)
    (folder / "own_mistakes.py").write_text(CODE)
    (folder / "unfinished.py").write_text("\ndef f(:\n")
    (folder / "c.yaml").write_text(CONFIG)
    (folder / "function.pt").write_bytes(pickle.dumps(print, protocol=4))
    torch.save(torch.nn.Linear(2, 2), folder / "module.pt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return folder


def own(kind: str, name: str) -> str:
    return f'{kind}={{kind: python, target: "own_mistakes:{name}"}}'


def _line(text: str, *, last: bool = False) -> str:
    """Return the place of a line of the code."""
    found = [number for number, line in enumerate(CODE.splitlines(), start=1) if text in line]
    return f"own_mistakes.py:{found[-1 if last else 0]}"


METHODS = {
    "Number": "method.target: Number.loss returned a float: expected the mean loss",
    "Vector": "method.target: Vector.loss returned a tensor of shape (4,): expected",
    "Constant": "method.target: Constant.loss returned a tensor that depends on no parameter",
    "Raises": "method.target: own_mistakes:Raises raised RuntimeError: mat1 and mat2 shapes",
    "Stops": "method.target: own_mistakes:Stops raised SystemExit: 3 in ",
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_fails_at_its_first_step_leaves_nothing(place: Path, name: str) -> None:
    experiment = load_config(place / "c.yaml", [own("method", name)])
    for overwrite in (False, True):
        with pytest.raises(GrowmasError) as caught:
            run_experiment(experiment, "run", overwrite=overwrite)
        assert METHODS[name] in str(caught.value)
        assert str(caught.value).startswith("override method=")
        assert len(str(caught.value).splitlines()) == 1
        assert not Path("run").exists()
    if name == "Raises":
        assert _line("inputs[:, :2]") in str(caught.value)


LATER = {
    "RaisesLater": "method.target: own_mistakes:RaisesLater raised KeyError: 'mine' in ",
    "Logits": "method.target: Logits.predict returned torch.float32 of shape (4, 3): expected",
    "Nothing": "method.target: Nothing.predict returned a NoneType: expected the labels of the 4",
}


@pytest.mark.parametrize("name", LATER)
def test_a_method_that_fails_later_leaves_what_it_did(place: Path, name: str) -> None:
    with pytest.raises(GrowmasError) as caught:
        run_experiment(load_config(place / "c.yaml", [own("method", name)]), "run")
    assert LATER[name] in str(caught.value)
    assert Path("run/history.db").exists()
    status = Path("run/status.json").read_text()
    assert '"failed"' in status
    assert LATER[name][:30] in status


def test_an_error_of_growmas_itself_is_not_blamed_on_a_method(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from growmas.experiment import task_aware

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(task_aware, "_updated", broken)
    with pytest.raises(ZeroDivisionError):
        run_experiment(load_config(place / "c.yaml", [own("method", "Plain")]), "run")


FILES = {
    "stream.source={kind: csv, path: good.csv, label: y, input: [a, y]}": (
        "stream.source.input: column 'y' of",
        "is the label, and would be learnt from",
    ),
    'stream.source={kind: python, target: "own_mistakes:stops"}': (
        "stream.source.target: own_mistakes:stops raised SystemExit: 3 in",
        _line("raise SystemExit(3)", last=True),
    ),
    'stream.source={kind: python, target: "unfinished:f"}': (
        "stream.source.target: module unfinished cannot be imported: SyntaxError: invalid syntax",
        "unfinished.py:2",
    ),
    "stream.source={kind: folder, path: ., size: 0}": (
        "stream.source.size: expected pixels such as 32",
        "got 0",
    ),
    'model={kind: python, target: "own_mistakes:Inside"}': (
        "model.target: own_mistakes:Inside raised AttributeError",
        _line("self.fc ="),
    ),
    'model={kind: python, target: "own_mistakes:Net", weights: good.csv}': (
        "model.weights:",
        "good.csv is not a safetensors file or a torch",
    ),
    'model={kind: python, target: "own_mistakes:Net", weights: function.pt}': (
        "model.weights:",
        "(it holds other objects than tensors)",
    ),
    'model={kind: python, target: "own_mistakes:Net", weights: module.pt}': (
        "model.weights:",
        "(it holds other objects than tensors)",
    ),
    "device=cuda:7": ("device: device 'cuda:7' cannot be used here", "give device: cpu"),
    "threads=100000": ("threads: expected at most", "got 100000"),
}


@pytest.mark.parametrize("change", FILES)
def test_a_mistake_is_one_line_and_nothing_is_written(place: Path, change: str) -> None:
    with pytest.raises(GrowmasError) as caught:
        run_experiment(load_config(place / "c.yaml", [change]), "run")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"override {change}: ")
    assert all(words in message for words in FILES[change])
    assert not Path("run").exists()


def test_an_architecture_that_transformers_lacks_is_told(place: Path) -> None:
    pytest.importorskip("transformers")
    for name, hint in (("bertt", 'did you mean "bert"?'), ("nope", "such as vit or bert")):
        experiment = load_config(place / "c.yaml", [f"model={{kind: transformers, name: {name}}}"])
        with pytest.raises(GrowmasError) as caught:
            run_experiment(experiment, "run")
        assert f"model.name: transformers has no architecture '{name}'; " in str(caught.value)
        assert hint in str(caught.value)
        assert not Path("run").exists()


def test_a_package_that_is_there_but_broken_is_not_to_be_installed_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "timm.py").write_text("raise RuntimeError('another torch')\n")
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(GrowmasError, match=r"another torch\): install versions that fit"):
        run_experiment(load_config(place / "c.yaml", ["model={kind: timm, name: resnet18}"]), "run")
