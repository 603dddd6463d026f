"""Networks and data of a pruning: every kind that a config can name, and runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_own_parts
import torch
from safetensors.torch import save_file
from test_own_parts import NET, PLAIN, SOURCES, VECTORS, config, stream
from typer.testing import CliRunner

from growmas.cli.app import app
from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.experiment import load_run, run_experiment
from growmas.experiment.prune_subject import prune_subject

place = test_own_parts.place

MODELS = """
import torch
from torch import nn

class Flat(nn.Module):
    def __init__(self, inputs=8, classes=5):
        super().__init__()
        self.fc1 = nn.Linear(inputs, 12)
        self.fc2 = nn.Linear(12, classes)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x.flatten(1).float())))

ready = Flat()

def pair():
    return Flat(), Flat()
"""


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (place / "flat.py").write_text(MODELS)
    monkeypatch.chdir(place)
    return place


def prune(*args: str) -> Any:
    return CliRunner().invoke(app, ["prune", *args])


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "tokens"])
def test_every_kind_of_source_gives_data(here: Path, kind: str) -> None:
    source, shape, classes = SOURCES[kind]
    size = int(np.prod(shape))
    subject = prune_subject(
        "flat:Flat", json.dumps(source), arguments={"inputs": size, "classes": classes}, images=10
    )
    assert subject.inputs.shape[1:] == shape
    assert len(subject.inputs) <= 10
    assert subject.tests[0].labelled
    assert len(subject.about["classes"]) == classes


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ("plain.npz", (8,)),
        ("table.parquet", (8,)),
        ("images.csv", (8,)),
        ("idx", (1, 4, 4)),
        ("small", (3, 8, 8)),
        ("own_code:vectors", (8,)),
        ("digits", (1, 8, 8)),
        ("config.yaml", (1, 8, 8)),
    ],
)
def test_a_name_tells_the_kind_of_source(here: Path, data: str, shape: tuple[int, ...]) -> None:
    (here / "images.csv").write_text((here / "table.csv").read_text().replace("species", "label"))
    (here / "small").symlink_to(here / "images")
    for path in (here / "images").rglob("*.png"):
        if int(path.stem) % 2:
            path.unlink()  # so that all have one size
            path.with_suffix(".txt").write_text("")
    for part in ("train", "test"):
        (here / "images" / part / "dog").rename(here / "images" / part / "bird")
        for path in (here / "images" / part / "cat").glob("*.png"):
            (here / "images" / part / "bird" / path.name).write_bytes(path.read_bytes())
    config(here)
    size = int(np.prod(shape))
    subject = prune_subject("flat:Flat", data, arguments={"inputs": size, "classes": 10})
    assert subject.inputs.shape[1:] == shape


def test_a_network_that_a_module_holds_is_copied(here: Path) -> None:
    subject = prune_subject("flat:ready", "plain.npz")
    import flat  # type: ignore[import-not-found]

    assert subject.network is not flat.ready
    assert torch.equal(subject.network.fc1.weight, flat.ready.fc1.weight)  # type: ignore[union-attr]


def test_a_config_names_network_and_data(here: Path) -> None:
    config(here, stream=stream(VECTORS), model={**NET, "weights": "net.safetensors"})
    found = prune("config.yaml", "--ratio", "0.25", "-o", "slim.pt2", "--json")
    assert found.exit_code == 0, found.output
    before, after = json.loads(found.stdout)
    assert after["parameters"] < before["parameters"]
    assert before["latency"] > 0
    files = {"growmas.json": ""}
    program = torch.export.load(str(here / "slim.pt2"), extra_files=files).module()
    assert program(torch.zeros(3, 8)).shape == (3, 10)
    assert json.loads(files["growmas.json"])["input_shape"] == [8]


def test_transformers_by_name(here: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 8, "patch_size": 4, "num_labels": 10}  # fmt: skip
    args = [f"--arg={name}={value}" for name, value in sizes.items()]
    found = prune("transformers:vit", "--data", "digits", "--ratio", "0.25", *args, "--json")
    assert found.exit_code == 0, (found.output, found.exception)
    before, after = json.loads(found.stdout)
    assert after["flops"] < before["flops"]


def test_timm_by_name(here: Path) -> None:
    pytest.importorskip("timm")
    found = prune(
        "timm:resnet10t", "--data", "{kind: digits, resize: 32}", "--arg", "num_classes=10",
        "--ratio", "0.25", "--images", "40", "--json",
    )  # fmt: skip
    assert found.exit_code == 0, (found.output, found.exception)
    before, after = json.loads(found.stdout)
    assert after["parameters"] < before["parameters"]


RUNS: dict[str, dict[str, Any]] = {
    "tasks": {"stream": {**PLAIN["stream"], "scenario": "task"}},
    "growing": {
        "stream": stream({"kind": "npz", "path": "plain.npz", "normalise": "standard"},
                         [[0, 1], [2, 3, 4]]),
        "method": {"kind": "growmas", "grow": {"units": 2},
                   "context": {"kind": "gaussian", "dimensions": 4}},
    },
    "one head": {"stream": stream(VECTORS, 5), "model": NET},
    "frozen": {"stream": stream(VECTORS, [[0, 1], [2, 3, 4]]),
               "model": {**NET, "freeze": ["*"], "adapter": 6}},
    "permuted": {"stream": {"kind": "permuted", "source": "digits", "tasks": 2,
                            "scenario": "domain", "limit": 5}},
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_the_network_of_a_run(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("GROWMAS_CACHE", str(tmp_path / "cache"))
    run_experiment(load_config(config(here, **RUNS[kind])), tmp_path / "run")
    result = load_run(tmp_path / "run").metrics
    for task in (None, "0"):
        chosen = [] if task is None else ["--task", task]
        found = prune(str(tmp_path / "run"), "--ratio", "0.25", *chosen, "--json")
        assert found.exit_code == 0, (found.output, found.exception)
        before, after = json.loads(found.stdout)
        assert after["parameters"] < before["parameters"]
        if task is None and kind in ("one head", "tasks", "permuted", "frozen"):
            assert before["accuracy"] == pytest.approx(np.mean(result.accuracy[-1]), abs=1e-6)


def test_other_data_for_a_task_of_a_run(here: Path, tmp_path: Path) -> None:
    run_experiment(load_config(config(here, **RUNS["tasks"])), tmp_path / "run")
    run = str(tmp_path / "run")
    found = prune(run, "--task", "0", "--data", "digits", "--ratio", "0.25", "--json")
    assert found.exit_code == 0, (found.output, found.exception)
    with pytest.raises(GrowmasError, match="choose one with --task"):
        prune_subject(run, "digits")


def test_weights_of_torch_and_frozen_layers(here: Path) -> None:
    model = json.dumps({**NET, "args": {"width": 12}, "freeze": ["stem.*"]})
    found = prune(model, "--data", "plain.npz", "--weights", "narrow.pt", "--ratio", "0.5",
                  "-o", "slim.safetensors")  # fmt: skip
    assert found.exit_code == 0, (found.output, found.exception)
    from safetensors.torch import load_file

    tensors = load_file("slim.safetensors")
    assert tensors["stem.0.weight"].shape == (12, 8)
    assert tensors["middle.weight"].shape == (6, 12)


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        ("flat:Flat", None, "say what data to use"),
        ("flat:Flat", "plan.npz", "--data: path: "),
        ("flat:Flat", "{kind: npy, path: plain.npz}", "--data: kind: expected builtin, npz"),
        ("flat:Flat", "{kind: npz, path: plain.npz, lable: y}", 'did you mean "label"?'),
        ("flat:Flat", "{kind: npz", "not a valid mapping"),
        ("flat:Flat", "digitss", "did you mean 'digits'?"),
        ("flat:Flat", "own_code:with_nan", "NaN"),
        ("flat:Flat", "digits", "cannot take inputs of shape (8, 1, 8, 8)"),
        ("flat:pair", "plain.npz", "returned a tuple"),
        ("flat", "plain.npz", "expected a network as module:name"),
        ("slim.pt2", "plain.npz", "a program without layers"),
        ("timm:no_such_network", "digits", "MODEL"),
        ("{kind: mlp, hidden: [8]}", "digits", "is trained by runs"),
        ("{kind: python, target: 'flat:Flat', adapter: 8}", "plain.npz", "MODEL: adapter"),
    ],
)
def test_mistakes_are_one_message(here: Path, model: str, data: str | None, words: str) -> None:
    with pytest.raises(GrowmasError) as caught:
        prune_subject(model, data)
    assert words in str(caught.value)


def test_a_saved_data_set_of_the_hub(here: Path) -> None:
    datasets = pytest.importorskip("datasets")
    x, y = np.eye(8, dtype=np.float32).repeat(10, 0), np.arange(80) % 5
    part = datasets.Dataset.from_dict({"x": x.tolist(), "label": y.tolist()})
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk("saved")
    subject = prune_subject("flat:Flat", "saved")
    assert subject.inputs.shape[1:] == (8,)


def test_the_command_works_from_another_folder(here: Path, tmp_path: Path) -> None:
    save_file({"fc1.weight": torch.zeros(12, 8)}, here / "half.safetensors")
    code = "from growmas.cli.program import main; main()"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, "prune", "flat:Flat", "--data", "plain.npz", "--ratio", "0.5",
         "--weights", "half.safetensors"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "half.safetensors does not fit the network" in done.stderr
    assert "Traceback" not in done.stderr
