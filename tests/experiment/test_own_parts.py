"""Data, networks and methods of a user: each kind from one config, learnt, loaded, exported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import growmas
from growmas.cli.app import app
from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.experiment import (
    build_stream,
    build_structure,
    build_task_free_stream,
    load_run,
    run_experiment,
)
from growmas.experiment.exporting import export_network
from growmas.experiment.streams import build_raw_stream
from growmas.sweep import plan_sweep, run_sweep

HERE = Path(__file__).parent
PLAIN: dict[str, Any] = {
    "name": "own",
    "stream": {"kind": "split", "source": "digits", "tasks": 5, "scenario": "class"},
    "model": {"kind": "mlp", "hidden": [8]},
    "method": {"kind": "finetune"},
    "training": {"epochs": 1, "learning_rate": 0.01, "batch_size": 16},
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the user's modules and files, which is not the working directory."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(HERE / "own_code.py", folder)
    write_files(folder)
    return folder


def write_files(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet
    from own_code import Net, images, vectors
    from PIL import Image

    x, y = vectors()
    np.savez(folder / "plain.npz", x=x, y=y)
    np.savez(folder / "parts.npz", **images())
    columns = {f"f{i}": x[:, i] for i in range(8)}
    lines = [",".join([*columns, "species"])]
    lines += [",".join([*map(str, row), f"s{label}"]) for row, label in zip(x, y, strict=True)]
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    parquet.write_table(pa.table({**columns, "label": y}), folder / "table.parquet")
    parquet.write_table(pa.table({"v": list(map(list, x)), "label": y}), folder / "lists.parquet")
    encoded = []
    for index in range(20):
        name = ("cat", "dog")[index % 2]
        for part in ("train", "test"):
            (folder / "images" / part / name).mkdir(parents=True, exist_ok=True)
            path = folder / "images" / part / name / f"{index}.png"
            Image.new("RGB", (8 + index % 2, 8), (index, 0, 0)).save(path)
        encoded.append({"bytes": path.read_bytes(), "path": None})
    parquet.write_table(
        pa.table({"image": encoded, "label": [0, 1] * 10}), folder / "encoded.parquet"
    )
    (folder / "idx").mkdir()
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = np.arange(count * 16, dtype=np.uint8).tobytes()
        head = b"\0\0\x08\x03" + np.array([count, 4, 4], ">u4").tobytes()
        (folder / "idx" / f"{part}-images-idx3-ubyte").write_bytes(head + pixels)
        labels = (np.arange(count) % 2).astype(np.uint8).tobytes()
        head = b"\0\0\x08\x01" + np.array([count], ">u4").tobytes()
        (folder / "idx" / f"{part}-labels-idx1-ubyte").write_bytes(head + labels)
    save_file(Net().state_dict(), folder / "net.safetensors")
    torch.save(Net(width=12).state_dict(), folder / "narrow.pt")


def config(place: Path, **changes: Any) -> Path:
    """Write a config with some parts changed."""
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **changes}), encoding="utf-8")
    return path


def stream(source: Any, tasks: Any = 1, **more: Any) -> dict[str, Any]:
    return {"kind": "split", "source": source, "tasks": tasks, "scenario": "class", **more}


VECTORS = {"kind": "python", "target": "own_code:vectors"}
NET = {"kind": "python", "target": "own_code:Net"}

SOURCES = {
    "npz": ({"kind": "npz", "path": "plain.npz"}, (8,), 5),
    "npz in parts": ({"kind": "npz", "path": "parts.npz"}, (3, 8, 8), 2),
    "npz grey": ({"kind": "npz", "path": "parts.npz", "channels": 1, "resize": 4}, (1, 4, 4), 2),
    "csv": ({"kind": "csv", "path": "table.csv", "label": "species"}, (8,), 5),
    "csv columns": (
        {"kind": "csv", "path": "table.csv", "label": "species", "input": ["f0", "f3"]},
        (2,),
        5,
    ),
    "parquet": ({"kind": "parquet", "path": "table.parquet"}, (8,), 5),
    "parquet lists": ({"kind": "parquet", "path": "lists.parquet", "test": 0.25}, (8,), 5),
    "parquet images": ({"kind": "parquet", "path": "encoded.parquet", "size": 6}, (3, 6, 6), 2),
    "folder": ({"kind": "folder", "path": "images", "size": [6, 7]}, (3, 6, 7), 2),
    "one folder": (
        {"kind": "folder", "path": "images/train", "size": 5, "test": 0.5},
        (3, 5, 5),
        2,
    ),
    "idx": ({"kind": "idx", "path": "idx"}, (1, 4, 4), 2),
    "python": (VECTORS, (8,), 5),
    "python images": ({"kind": "python", "target": "own_code:images"}, (3, 8, 8), 2),
    "python datasets": ({"kind": "python", "target": "own_code:torch_datasets"}, (8,), 5),
    "python Dataset": ({"kind": "python", "target": "own_code:dataset"}, (8,), 5),
    "tokens": ({"kind": "python", "target": "own_code:tokens"}, (6,), 4),
    "built in, with settings": ({"kind": "digits", "normalise": "standard"}, (1, 8, 8), 10),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_gives_its_samples(place: Path, kind: str) -> None:
    source, shape, classes = SOURCES[kind]
    built = build_stream(load_config(config(place, stream=stream(source))))
    assert built.input_shape == shape
    assert built.head_sizes == (classes,)
    assert len(built.classes) == classes
    task = built.tasks[0]
    assert task.train.take(slice(3)).shape == (3, *shape)
    assert {*task.train.labels.tolist()} == {*range(classes)} == {*task.test.labels.tolist()}


def test_pixels_become_shares_and_normalisation_is_exact(place: Path) -> None:
    source = {"kind": "npz", "path": "parts.npz"}
    plain = build_stream(load_config(config(place, stream=stream(source)))).tasks[0].train.inputs
    assert plain.dtype == torch.float32
    assert 0 <= float(plain.min()) < float(plain.max()) <= 1
    scaled = {**source, "normalise": {"mean": 0.5, "std": [0.25, 0.5, 1.0]}}
    found = build_stream(load_config(config(place, stream=stream(scaled)))).tasks[0].train.inputs
    std = torch.tensor([0.25, 0.5, 1.0])[:, None, None]
    assert torch.allclose(found, (plain - 0.5) / std)
    standard = {**source, "normalise": "standard"}
    found = build_stream(load_config(config(place, stream=stream(standard)))).tasks[0].train.inputs
    assert torch.allclose(found.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)


def test_fashion_mnist_is_found_or_says_how_to_get_it(place: Path) -> None:
    source = {"kind": "fashion_mnist", "path": "idx"}
    experiment = load_config(config(place, stream=stream(source)))
    with pytest.raises(GrowmasError, match="fashion"):  # ten classes are named, two are there
        build_stream(experiment)
    with pytest.raises(GrowmasError, match="apt install dataset-fashion-mnist"):
        build_stream(load_config(config(place, stream=stream({**source, "path": "elsewhere"}))))


def test_one_config_with_everything_of_ones_own(place: Path, tmp_path: Path) -> None:
    path = config(
        place,
        stream=stream(VECTORS, [[0, 1], [2, 3, 4]], validation=0.2),
        model={**NET, "args": {"width": 16}, "head": "fc", "weights": "net.safetensors",
               "freeze": ["stem.*"]},
        method={"kind": "python", "target": "own_code:ER", "args": {"memory": 20}},
    )  # fmt: skip
    result = run_experiment(load_config(path), tmp_path / "run")
    assert result.finished
    assert len(result.validation) == 2
    assert {*result.imports} == {"own_code:vectors", "own_code:Net", "own_code:ER"}
    path.unlink()
    again = run_experiment(load_config(tmp_path / "run" / "config.yaml"), tmp_path / "again")
    assert again.accuracy == result.accuracy
    assert again.stream_digest == result.stream_digest
    run = load_run(tmp_path / "run")
    task = run.stream.tasks[0]
    with torch.no_grad(), run.history:
        answers = run.model(task.test.inputs, 0).argmax(1)
        assert run.history.widths()
    right = (answers == task.test.labels).float().mean()
    assert float(right) == pytest.approx(result.accuracy[-1][0])
    assert run.metrics == run.metrics
    assert run.config.stream.task_count == 2


def test_a_frozen_network_gives_features_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROWMAS_CACHE", str(tmp_path / "cache"))
    experiment = load_config(
        config(
            place,
            stream=stream(VECTORS, [[0, 1], [2, 3, 4]]),
            model={**NET, "freeze": ["*"], "adapter": 6},
            method={
                "kind": "growmas",
                "grow": {"units": 2},
                "context": {"kind": "gaussian", "dimensions": 4},
            },
        )
    )
    result = run_experiment(experiment, tmp_path / "run")
    assert result.units == {"fc1": 8}
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 4
    again = run_experiment(experiment, tmp_path / "again")
    assert again.accuracy == result.accuracy
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    run = load_run(tmp_path / "run")
    written = export_network(run, tmp_path / "net.pt2", format="pt2", task=1)
    assert written.about["input_shape"] == [8]
    files = {"growmas.json": ""}
    program = torch.export.load(str(tmp_path / "net.pt2"), extra_files=files).module()
    task = build_raw_stream(run.config).tasks[1]
    with torch.no_grad(), run.structure.view(1):
        expected = run.model(run.stream.tasks[1].test.inputs, 1)
    assert torch.allclose(program(task.test.inputs), expected, atol=1e-5)


def test_frozen_layers_neither_grow_nor_move(place: Path, tmp_path: Path) -> None:
    experiment = load_config(
        config(
            place,
            stream=stream(VECTORS, [[0, 1], [2, 3, 4]]),
            model={**NET, "weights": "net.safetensors", "freeze": ["stem.*"]},
            method={
                "kind": "growmas",
                "grow": {"units": 2},
                "prune": {"ratio": 0.1},
                "context": {"kind": "gaussian", "dimensions": 4},
            },
        )
    )
    result = run_experiment(experiment, tmp_path / "run")
    assert result.units["network.stem.0"] == 16
    assert result.units["network.middle"] > 16
    before = build_structure(experiment, build_stream(experiment)).model.state_dict()
    after = load_run(tmp_path / "run").model.state_dict()
    for name in before:
        if name.startswith("network.stem"):
            assert torch.equal(before[name], after[name])


def free(of: str, **more: Any) -> dict[str, Any]:
    """Return a task-free stream of vectors, or of images where it turns."""
    source: Any = "digits" if of == "turning" else VECTORS
    return {"kind": "task_free", "of": of, "source": source, "tasks": 2 if of == "turning" else 5,
            "steps_per_task": 4, **more}  # fmt: skip


@pytest.mark.parametrize("freeze", [["stem.*"], ["*"]], ids=["stem", "all"])
@pytest.mark.parametrize("of", ["split", "permuted", "turning"])
def test_task_free_streams_keep_what_is_frozen(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, freeze: list[str]
) -> None:
    monkeypatch.setenv("GROWMAS_CACHE", str(tmp_path / "cache"))
    own = {**NET, "weights": "net.safetensors"}
    if of == "turning":
        own = {"kind": "python", "target": "own_code:Flat"}
    experiment = load_config(
        config(
            place,
            stream=free(of),
            model={**own, "freeze": freeze, "adapter": 6},
            method={"kind": "growmas", "grow": {"units": 2}, "task_free": {"contexts": 2}},
        )
    )
    result = run_experiment(experiment, tmp_path / "run")
    cached = of != "turning" and freeze == ["*"]
    assert (tmp_path / "cache").exists() == cached
    run = load_run(tmp_path / "run")
    assert run.stream.digest == result.stream_digest
    before = build_structure(experiment, build_task_free_stream(experiment), heads=2)
    after = run.model.state_dict()
    held = [name for name in after if name.startswith("network.stem.0")]
    assert bool(held) != cached
    for name in held:
        assert torch.equal(before.model.state_dict()[name], after[name])
    frozen = [name for name in before.groups if name.startswith("network.stem")]
    for name in frozen:
        assert "frozen" in before.groups[name].no_grow
    if cached:
        plain = load_config(place / "config.yaml", ["model={kind: mlp, hidden: [4]}"])
        assert build_task_free_stream(plain).batch(0).inputs.shape[1:] == (8,)
        assert run.stream.batch(0).inputs.shape[1:] == (16,)


def test_groups_that_are_kept_say_why(place: Path) -> None:
    experiment = load_config(config(place, stream=stream(VECTORS), model=NET))
    structure = build_structure(experiment, build_stream(experiment))
    structure.keep_width(["network.middle"], "it is measured elsewhere")
    with pytest.raises(GrowmasError, match="measured elsewhere"):
        structure.apply(growmas.Plan(grow={"network.middle": 2}))
    with pytest.raises(GrowmasError, match="measured elsewhere"):
        structure.apply(growmas.Plan(prune={"network.middle": [0]}))
    with pytest.raises(GrowmasError, match=r"did you mean 'network\.middle'"):
        structure.keep_width(["network.midle"], "")


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "resnet", "channels": [4, 8], "blocks": 1},
        {"kind": "vit", "patch": 4, "width": 8, "depth": 1, "heads": 2, "hidden": 8},
        {"kind": "transformers", "name": "vit", "args": {
            "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 8, "patch_size": 4}},
    ],
    ids=lambda model: model["kind"],
)  # fmt: skip
def test_a_network_of_images_grows_and_is_exported(
    place: Path, tmp_path: Path, model: dict[str, Any]
) -> None:
    experiment = load_config(
        config(
            place,
            stream={**PLAIN["stream"], "scenario": "task", "limit": 5, "tasks": 2},
            model=model,
            method={"kind": "growmas", "grow": {"units": 2}},
        )
    )
    assert run_experiment(experiment, tmp_path / "run").finished
    run = load_run(tmp_path / "run")
    path = tmp_path / "net.pt2"
    written = export_network(run, path, format="pt2", task=0)
    assert written.difference <= 1e-5
    task = run.stream.tasks[0]
    with torch.no_grad(), run.structure.view(0):
        expected = run.model(task.test.inputs[:5], 0)
    np.save(tmp_path / "inputs.npy", task.test.inputs[:5].numpy())
    done = subprocess.run([sys.executable, "-c", WITHOUT, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs, about = done.stdout.splitlines()
    assert torch.allclose(torch.tensor(json.loads(outputs)), expected, atol=1e-5)
    assert json.loads(about)["classes"] == ["0", "1", "2", "3", "4"]


WITHOUT = """
import json, sys
sys.modules["growmas"] = None
import numpy, torch
from pathlib import Path
path = Path(sys.argv[1])
files = {"growmas.json": ""}
program = torch.export.load(path, extra_files=files)
print(program.module()(torch.from_numpy(numpy.load(path.with_name("inputs.npy")))).tolist())
print(files["growmas.json"])
"""


def test_tokens_need_a_network_that_reads_them(place: Path, tmp_path: Path) -> None:
    source = stream({"kind": "python", "target": "own_code:tokens"}, 2)
    own = {"kind": "python", "target": "own_code:Embedded"}
    assert run_experiment(
        load_config(config(place, stream=source, model=own)), tmp_path / "run"
    ).finished


def test_a_sweep_of_ones_own_parts_in_two_processes(place: Path, tmp_path: Path) -> None:
    path = config(
        place,
        stream=stream(VECTORS, [[0, 1], [2, 3, 4]]),
        model=NET,
        method={"kind": "python", "target": "own_code:ER"},
    )
    sweep = plan_sweep(path, ["seed=0,1"], directory=tmp_path / "sweep")
    assert [run.message for run in run_sweep(sweep, jobs=2)] == ["", ""]


def test_modules_are_found_in_folders_given_by_import(place: Path, tmp_path: Path) -> None:
    path = config(place, stream=stream({**VECTORS, "target": "elsewhere:vectors"}, 5))
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(HERE / "own_code.py", other / "elsewhere.py")
    found = CliRunner().invoke(app, ["run", str(path), "--dry-run", "--import", str(other)])
    assert found.exit_code == 0, found.output
    assert "nothing was written" in found.output


def test_safetensors_and_bad_tasks(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiment(load_config(config(place, stream=stream(VECTORS, 5), model=NET)), tmp_path / "r")
    run = load_run(tmp_path / "r")
    export_network(run, tmp_path / "net.safetensors", format="safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(
            "growmas.experiment.exporting.load_file",
            lambda path: {name: each + 0.1 for name, each in load_file(path).items()},
        )
        with pytest.raises(GrowmasError, match="the safetensors file gives other outputs"):
            export_network(run, tmp_path / "wrong.safetensors", format="safetensors")
    assert not (tmp_path / "wrong.safetensors").exists()
    with pytest.raises(GrowmasError, match="there is no task 'cats'"):
        export_network(run, tmp_path / "net.pt2", format="pt2", task="cats")


def test_the_public_names_are_there() -> None:
    assert growmas.load_run is load_run
    assert issubclass(growmas.Method, object)
