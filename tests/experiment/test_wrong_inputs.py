"""Wrong data, networks and methods: one message with the file, the line, the key and the remedy."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_own_parts
import torch
from test_own_parts import NET, PLAIN, VECTORS, config, stream

from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.experiment.rehearsal import rehearse

place = test_own_parts.place


def python(name: str, **more: Any) -> dict[str, Any]:
    return {"stream": stream({"kind": "python", "target": f"own_code:{name}", **more})}


def source(kind: str, path: str, **more: Any) -> dict[str, Any]:
    return {"stream": stream({"kind": kind, "path": path, **more})}


def net(name: str = "Net", **more: Any) -> dict[str, Any]:
    model = {"kind": "python", "target": f"own_code:{name}", **more}
    return {"stream": stream(VECTORS), "model": model}


def method(name: str, **args: Any) -> dict[str, Any]:
    return {
        "stream": stream(VECTORS),
        "method": {"kind": "python", "target": f"own_code:{name}", "args": args},
    }


def tasks(**more: Any) -> dict[str, Any]:
    return {"stream": {**PLAIN["stream"], **more}}


def training(*transforms: Any, **more: Any) -> dict[str, Any]:
    """Return changes of a config whose samples are images of 8×8."""
    return {"training": {**PLAIN["training"], **more, "transforms": list(transforms)}}


def own(target: str, **args: Any) -> dict[str, Any]:
    return {"kind": "python", "target": target, "args": args}


def free(**more: Any) -> dict[str, Any]:
    given = {"kind": "task_free", "of": "split", "source": "digits", "tasks": 5, **more}
    return {"stream": given}


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown kind of source": (source("npy", "a"), "stream.source.kind", "expected builtin, npz"),
    "source without a kind": (
        {"stream": stream({"path": "plain.npz"})}, "stream.source.kind", "missing, expected",
    ),
    "source of another type": ({"stream": stream(5)}, "stream.source", "the name of a source"),
    "unknown name": ({"stream": stream("mnst5k")}, "stream.source", 'did you mean "mnist5k"?'),
    "unknown key of a source": (
        source("npz", "plain.npz", lable="y"), "stream.source.lable", 'did you mean "label"?',
    ),
    "missing file": (source("npz", "plane.npz"), "stream.source.path", "plain.npz"),
    "not an npz file": (source("npz", "table.csv"), "stream.source.path", "numpy.savez"),
    "missing array": (source("npz", "plain.npz", label="z"), "stream.source.label", "no array 'z'"),
    "missing column": (
        source("csv", "table.csv", label="speces"), "stream.source.label", 'mean "species"?',
    ),
    "no column of labels": (source("csv", "table.csv"), "stream.source.label", "name the column"),
    "missing column of inputs": (
        source("csv", "table.csv", label="species", input=["f0", "f99"]),
        "stream.source.input", "no column 'f99'",
    ),
    "text among numbers": (
        source("csv", "text.csv", label="label"), "stream.source.input", "row 2 of column 'a'",
    ),
    "an empty cell": (
        source("csv", "empty.csv", label="label"), "stream.source.input", "got nothing",
    ),
    "a row that is too long": (source("csv", "long.csv"), "stream.source.path", "line 3 has 3"),
    "share above 1": (
        source("parquet", "table.parquet", test=1.5), "stream.source.test", "share of each class",
    ),
    "missing test file": (
        source("csv", "table.csv", label="species", test="t.csv"),
        "stream.source.test", "does not exist",
    ),
    "images of several sizes": (source("folder", "images"), "stream.source.size", "such as 32"),
    "folder of nothing": (source("folder", "idx"), "stream.source.path", "one for each class"),
    "class without images": (source("folder", "hollow"), "stream.source", "has no images"),
    "broken image": (source("folder", "torn"), "stream.source", "not a readable image"),
    "damaged idx": (source("idx", "torn_idx"), "stream.source.path", "download it again"),
    "size of three": (
        source("folder", "images", size=[1, 2, 3]), "stream.source.size", "height, width",
    ),
    "channels of vectors": (
        source("npz", "plain.npz", channels=3), "stream.source.channels", "only images",
    ),
    "mean of too many": (
        source("npz", "plain.npz", normalise={"mean": [1, 2], "std": 1}),
        "stream.source.normalise.mean", "8 numbers",
    ),
    "deviation of 0": (
        source("npz", "plain.npz", normalise={"mean": 1, "std": 0}),
        "stream.source.normalise.std.0", "above 0",
    ),
    "too few names": (
        source("npz", "plain.npz", classes=["a", "b"]), "stream.source", "add the missing names",
    ),
    "NaN": (python("with_nan"), "stream.source", "NaN or infinity"),
    "class in test only": (python("class_in_test_only"), "stream.source", "add training samples"),
    "too few labels": (python("too_few_labels"), "stream.source", "got 59"),
    "one-hot labels": (python("one_hot"), "stream.source", "not one-hot"),
    "a target that returns nothing": (python("nothing"), "stream.source.target", "NoneType"),
    "a target that returns text": (python("text"), "stream.source.target", "are a str"),
    "a target that raises": (python("broken"), "stream.source.target", "the server is down"),
    "a target without a colon": (
        {"stream": stream({"kind": "python", "target": "own_code"})},
        "stream.source.target", '"module:name"',
    ),
    "a target without a module": (
        {"stream": stream({"kind": "python", "target": "own_cod:x"})},
        "stream.source.target", "--import",
    ),
    "a target without the name": (python("vector"), "stream.source.target", 'mean "vectors"?'),
    "wrong arguments": (python("vectors", args={"n": 3}), "stream.source.args", "'n'"),
    "images read as vectors": (
        python("images", inputs="vectors"), "stream.source.inputs", "reshape them",
    ),
    "hub without a name": (
        {"stream": stream({"kind": "hub"})}, "stream.source.name", "either a name",
    ),
    "an unknown class": (tasks(tasks=[[0, 1], ["ten"]]), "stream.tasks.1.0", "is not a class"),
    "a class twice": (tasks(tasks=[[0, 1], [1, 2]]), "stream.tasks", "listed twice"),
    "unequal division": (tasks(tasks=3), "stream.tasks", "or list the classes"),
    "too many in sizes": (tasks(sizes=[5, 9]), "stream.sizes", "but there are 10"),
    "first too large": (tasks(first=9, tasks=5), "stream.first", "share equally"),
    "both sizes and first": (tasks(sizes=[5, 5], first=5), "stream.first", "leave it out"),
    "limit of an unknown class": (
        tasks(limit={"cat": 5}), "stream.limit.cat", "is not a class",
    ),
    "noise of 1": (tasks(label_noise=1.0), "stream.label_noise", "under 1"),
    "class order twice": (tasks(class_order=[1, 1]), "stream.class_order", "listed twice"),
    "domain of unequal tasks": (
        tasks(tasks=[[0], [1, 2]], scenario="domain"), "stream.scenario", "equally many",
    ),
    "a network that is none": (net("vectors"), "model.target", "torch.nn.Module"),
    "a network of other inputs": (net(args={"inputs": 9}), "model.target", "cannot take inputs"),
    "arguments a network lacks": (net(args={"depth": 9}), "model.args", "'depth'"),
    "a head that is not there": (net(head="fcc"), "model.head", 'did you mean "fc"?'),
    "a head that is no Linear": (net(head="stem.1"), "model.head", "BatchNorm1d"),
    "a head that is not the last": (net(head="middle"), "model.head", "name its last layer"),
    "a softmax after the head": (net("Softmaxed"), "model.head", "leave a softmax"),
    "a network without a Linear": (net("NoLinear"), "model.head", "no Linear layer"),
    "an output that is a mapping": (net("Dictionary"), "model.target", "returned a dict"),
    "missing weights": (net(weights="nets.safetensors"), "model.weights", "does not exist"),
    "weights of another shape": (net(weights="narrow.pt"), "model.weights", "has shape (12,"),
    "weights that are no weights": (net(weights="plain.npz"), "model.weights", "state dict"),
    "a pattern that fits nothing": (net(freeze=["conv.*"]), "model.freeze.0", "fits no parameter"),
    "convolutions of vectors": (
        {"stream": stream(VECTORS), "model": {"kind": "convnet", "channels": 4, "hidden": 4}},
        "model.kind", "use kind mlp",
    ),
    "tokens into a perceptron": (python("tokens"), "model.kind", "cannot read tokens"),
    "patches that do not fit": (
        {"model": {"kind": "vit", "patch": 3}}, "model.patch", "a divisor of both",
    ),
    "a method that is none": (method("NotAMethod"), "method.target", "class NotAMethod(Method)"),
    "a method that forgets to begin": (method("Forgetful"), "method.target", "super().__init__"),
    "arguments a method lacks": (method("ER", size=3), "method.args", "'size'"),
    "an unknown transform": (
        training("flop"), "training.transforms.0.kind", 'did you mean "flip"?',
    ),
    "a transform without a kind": (
        training({"padding": 2}), "training.transforms.0.kind", "missing, expected flip",
    ),
    "a transform that is a number": (training(3), "training.transforms.0", "expected"),
    "transforms that are no list": (
        {"training": {**PLAIN["training"], "transforms": "flip"}},
        "training.transforms", "expected a list",
    ),
    "an unknown key of a transform": (
        training({"kind": "crop", "pading": 2}),
        "training.transforms.0.pading", 'did you mean "padding"?',
    ),
    "a padding of 0": (
        training({"kind": "crop", "padding": 0}), "training.transforms.0.padding", "at least 1",
    ),
    "a probability of 2": (
        training({"kind": "flip", "probability": 2.0}),
        "training.transforms.0.probability", "a number in 0",
    ),
    "an erasure of half a pixel": (
        training({"kind": "erase", "size": 0.5}), "training.transforms.0.size", "whole number",
    ),
    "a flip of vectors": (
        {"stream": stream(VECTORS), **training("flip")},
        "training.transforms.0.kind", "leave it out",
    ),
    "a transform that does not import": (
        training("flip", own("own_cod:x")), "training.transforms.1.target", "--import",
    ),
    "a transform without the name": (
        training(own("own_code:halvd")), "training.transforms.0.target", 'mean "halved"?',
    ),
    "a transform of other arguments": (
        training(own("own_code:halved", by=3)), "training.transforms.0.args", "'by'",
    ),
    "a transform that is a number once made": (
        training(own("own_code:number")), "training.transforms.0.target", "expected a function",
    ),
    "a transform of another shape": (
        training(own("own_code:halved")), "training.transforms.0", "of the same shape",
    ),
    "a transform that raises": (
        training(own("own_code:raising")), "training.transforms.0", "it is too bright",
    ),
    "a transform of features": (
        {**net(freeze=["*"]), **training("flip")}, "training.transforms", "computed once",
    ),
    "an unknown precision": (training(precision="fp8"), "training.precision", "fp32, bf16 or fp16"),
    "fewer than no workers": (training(workers=-1), "training.workers", "0 for none"),
    "workers in words": (training(workers="two"), "training.workers", "a whole number"),
    "compile in words": (training(compile="yes please"), "training.compile", "true to run"),
    "a schedule without tasks": (
        {**free(), **training(schedule="cosine")}, "training.schedule", "expected constant",
    ),
    "transforms without tasks that do not fit": (
        {**free(of="split", scenario="class"),
         **training(own("own_code:nothing"))}, "training.transforms.0.target", "own_code",
    ),
    "periods that tell classes apart": (
        tasks(kind="ordered", scenario="class"), "stream.scenario", "share the same classes",
    ),
    "task-free periods that tell classes apart": (
        free(of="ordered", scenario="class"), "stream.scenario", "share the same classes",
    ),
    "more periods than samples": (
        tasks(kind="ordered", scenario="domain", tasks=900), "stream", "has no test samples",
    ),
    "no periods": (
        tasks(kind="ordered", scenario="domain", tasks=0), "stream.tasks", "at least 1",
    ),
    "an order of another kind": (free(of="orderd"), "stream.of", 'did you mean "ordered"?'),
    "a folder without arrays": (source("npz", "images"), "stream.source", "has no array 'x'"),
    "a folder without labels": (
        source("npz", "bare", label="z"), "stream.source.label", "has no array 'z'",
    ),
    "an array of objects": (source("npz", "objects"), "stream.source.path", "numpy.savez"),
    "a path of a source in a package": (
        {"stream": stream({"kind": "digits", "path": "images"})},
        "stream.source.path", "takes no path",
    ),
    "a task-free pattern that fits nothing": (
        {**free(source=VECTORS), "model": {**NET, "freeze": ["conv.*"]}},
        "model.freeze.0", "fits no parameter",
    ),
    "task-free weights of another shape": (
        {**free(source=VECTORS), "model": {**NET, "weights": "narrow.pt"}},
        "model.weights", "has shape (12,",
    ),
    "task-free features of a network that is none": (
        {**free(source=VECTORS),
         "model": {"kind": "python", "target": "own_code:vectors", "freeze": ["*"]}},
        "model.target", "torch.nn.Module",
    ),
    "an adapter of width 0": (net(adapter=[0]), "model.adapter.0", "widths of dense layers"),
    "a freeze that is a word": (net(freeze="stem"), "model.freeze", "a list of patterns"),
    "another device": ({"device": "gpu"}, "device", "cpu, mps, cuda"),
    "a method that is a function": (method("vectors"), "method.target", "unsupported operand"),
}  # fmt: skip


@pytest.fixture
def wrong_files(place: Path) -> Path:
    (place / "text.csv").write_text("a,b,label\n1,2,0\nx,3,1\n", encoding="utf-8")
    (place / "empty.csv").write_text("a,b,label\n1,2,0\n,3,1\n", encoding="utf-8")
    (place / "long.csv").write_text("a,label\n1,0\n2,1,3\n", encoding="utf-8")
    for name, content in (("hollow", None), ("torn", b"no image")):
        for label in ("cat", "dog"):
            (place / name / label).mkdir(parents=True)
            if content is not None:
                (place / name / label / "1.png").write_bytes(content)
    (place / "bare").mkdir()
    np.save(place / "bare" / "x.npy", np.zeros((4, 2), dtype=np.float32))
    (place / "objects").mkdir()
    for name in "xy":
        np.save(place / "objects" / f"{name}.npy", np.array([{}, None] * 4, dtype=object))
    (place / "torn_idx").mkdir()
    for each in (place / "idx").iterdir():
        (place / "torn_idx" / each.name).write_bytes(each.read_bytes()[:-3])
    return place


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_names_its_place_and_the_remedy(wrong_files: Path, name: str) -> None:
    changes, key, words = WRONG[name]
    path = config(wrong_files, **changes)
    random = torch.random.get_rng_state()
    with pytest.raises(GrowmasError) as caught:
        rehearse(load_config(path))
    message = str(caught.value)
    assert re.match(rf"{re.escape(str(path))}:\d+: {re.escape(key)}: ", message), message
    assert words in message
    assert message.count("\n") == 0, message
    assert torch.equal(random, torch.random.get_rng_state())


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 80


def test_labels_that_change_are_noticed(place: Path, tmp_path: Path) -> None:
    from growmas.experiment import load_run, run_experiment

    path = config(place, stream=stream({"kind": "npz", "path": "plain.npz"}, 5), model=NET)
    run_experiment(load_config(path), tmp_path / "run")
    x, y = np.random.default_rng(1).normal(size=(60, 8)), np.arange(60) % 5
    np.savez(place / "plain.npz", x=x, y=y)
    with pytest.raises(GrowmasError, match=r"the data of .* has changed"):
        load_run(tmp_path / "run")
