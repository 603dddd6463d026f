"""Exported networks, opened by other tools with growmas blocked from import."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_own_parts
import torch
from test_own_parts import NET, PLAIN, VECTORS, config, stream

from growmas.config import load_config
from growmas.experiment import load_run, run_experiment
from growmas.experiment.exporting import export_network
from growmas.experiment.run_network import run_network

place = test_own_parts.place

WITHOUT = """
import json, numpy, sys
sys.modules["growmas"] = None
"""

OPEN = {
    "pt2": WITHOUT
    + """
import torch
for path, inputs in map(json.loads, sys.stdin):
    files = {"growmas.json": ""}
    program = torch.export.load(path, extra_files=files).module()
    outputs = program(torch.from_numpy(numpy.load(inputs)))
    outputs = outputs if isinstance(outputs, tuple) else [outputs]
    about = json.loads(files["growmas.json"])
    print(json.dumps([[each.tolist() for each in outputs], about]), flush=True)
""",
    "onnx": WITHOUT
    + """
import onnxruntime
for path, inputs in map(json.loads, sys.stdin):
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    outputs = session.run(None, {given.name: numpy.load(inputs)})
    about = json.loads(session.get_modelmeta().custom_metadata_map["growmas.json"])
    print(json.dumps([[each.tolist() for each in outputs], about]), flush=True)
""",
}
"""Programs that read a file and inputs from each line, and print outputs and facts."""

IMAGES = {**PLAIN["stream"], "scenario": "task", "limit": 5, "tasks": 2}
RUNS: dict[str, dict[str, Any]] = {
    "mlp": {"stream": IMAGES},
    "convnet": {"stream": IMAGES, "model": {"kind": "convnet", "channels": [4], "hidden": [8]}},
    "resnet": {
        "stream": {**IMAGES, "source": {"kind": "digits", "normalise": "standard"}},
        "model": {"kind": "resnet", "channels": [4, 8], "blocks": 1},
        "method": {"kind": "growmas", "grow": {"units": 2}},
    },
    "vit": {
        "stream": IMAGES,
        "model": {"kind": "vit", "patch": 4, "width": 8, "depth": 1, "heads": 2, "hidden": 8},
    },
    "own": {"stream": stream(VECTORS, 5), "model": NET},
    "frozen": {"stream": stream(VECTORS, [[0, 1], [2, 3, 4]]),
               "model": {**NET, "freeze": ["*"], "adapter": 6}},
    "separate": {"stream": IMAGES, "method": {"kind": "separate"}},
    "permuted": {
        "stream": {
            "kind": "permuted", "tasks": 2, "scenario": "task",
            "source": {"kind": "npz", "path": "plain.npz", "normalise": "standard"},
        },
    },
    "task-free": {"stream": test_own_parts.free("permuted")},
}  # fmt: skip


@pytest.fixture(scope="module")
def openers() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Return the processes that open files, by format; each is started once, when needed."""
    started: dict[str, subprocess.Popen[str]] = {}
    yield started
    for opener in started.values():
        opener.communicate(timeout=60)


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_a_file_gives_the_outputs_of_the_run(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    openers: dict[str, subprocess.Popen[str]],
    kind: str,
    format: Any,
) -> None:
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    monkeypatch.setenv("GROWMAS_CACHE", str(tmp_path / "cache"))
    run_experiment(load_config(config(place, **RUNS[kind])), tmp_path / "run")
    run = load_run(tmp_path / "run")
    task = None if kind == "own" else 0
    written = export_network(run, tmp_path / f"net.{format}", format=format, task=task)
    assert written.difference <= 1e-5
    whole = run_network(run, task)
    split, _ = whole.tests[0]
    inputs = split.take(slice(5))  # another number than in the export
    np.save(tmp_path / "inputs.npy", inputs.numpy())
    if format not in openers:
        openers[format] = subprocess.Popen(
            [sys.executable, "-c", OPEN[format]], stdin=-1, stdout=-1, text=True
        )
    asked, answers = openers[format].stdin, openers[format].stdout
    assert asked is not None
    assert answers is not None
    print(json.dumps([str(written.path), str(tmp_path / "inputs.npy")]), file=asked, flush=True)
    (outputs,), about = json.loads(answers.readline())
    seen = run.stream.tasks[0].test.inputs[:5]  # as the run itself reads them
    with torch.no_grad(), run.structure.view(0):
        expected = run.model(seen, 0)
    assert torch.allclose(torch.tensor(outputs), expected, rtol=1e-5, atol=1e-5)
    assert about["input_shape"] == list(inputs.shape[1:])
    assert len(about["classes"]) == expected.shape[1]
    assert about["stream_digest"] == run.metrics.stream_digest


def test_safetensors_hold_the_tensors_of_one_head_and_the_facts(
    place: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open

    run_experiment(load_config(config(place, **RUNS["mlp"])), tmp_path / "run")
    run = load_run(tmp_path / "run")
    export_network(run, tmp_path / "net.safetensors", format="safetensors", task=1)
    with safe_open(str(tmp_path / "net.safetensors"), framework="pt") as file:
        assert sorted(file.keys()) == ["fc1.bias", "fc1.weight", "heads.0.bias", "heads.0.weight"]
        about = json.loads(file.metadata()["growmas.json"])
        head = file.get_tensor("heads.0.weight")
    assert about["classes"] == ["5", "6", "7", "8", "9"]
    assert torch.equal(head, run.model.state_dict()["heads.1.weight"])


def test_all_heads_together(place: Path, tmp_path: Path) -> None:
    run_experiment(load_config(config(place, **RUNS["mlp"])), tmp_path / "run")
    run = load_run(tmp_path / "run")
    export_network(run, tmp_path / "net.pt2", format="pt2")
    files = {"growmas.json": ""}
    program = torch.export.load(str(tmp_path / "net.pt2"), extra_files=files).module()
    outputs = program(run.stream.tasks[0].test.inputs[:3])
    assert [tuple(each.shape) for each in outputs] == [(3, 5), (3, 5)]
    assert json.loads(files["growmas.json"])["classes"] == [list("01234"), list("56789")]
