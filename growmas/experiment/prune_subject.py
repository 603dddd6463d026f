"""The subject of a pruning: a trained network and its data, named as a config names them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from torch import Tensor, nn

from growmas.batches import float_tensors
from growmas.config import Experiment, GivenModelConfig, NpzConfig, PythonSourceConfig, load_config
from growmas.config.bundled import find_config
from growmas.config.formatting import KeyPath, dotted
from growmas.config.mistakes import explain
from growmas.config.paths import resolve
from growmas.data import Dataset, Split, batches, source_names
from growmas.data.arrays import as_tensor, shaped
from growmas.data.files import array_names, read_array
from growmas.data.targets import call_target
from growmas.errors import ConfigError, DataError, GrowmasError, RunError
from growmas.experiment.loading import load_run
from growmas.experiment.networks import plain_network
from growmas.experiment.run_network import run_network
from growmas.experiment.sources import build_source
from growmas.models import load_weights
from growmas.models.headed import freeze_parameters
from growmas.runs.result import METRICS
from growmas.suggestion import suggestion

_EXAMPLES = 8
_KINDS = {".npz": "npz", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_FORMS = "module:name such as mymodel:Net, timm:name, transformers:name, a config or a run"


@dataclass(frozen=True, eq=False)
class TestData:
    """Samples on which one output of a network is measured.

    Attributes:
        split: The samples.
        output: Position of the output, among those of the network.
        labelled: True if the labels of the split mean something.
    """

    split: Split
    output: int
    labelled: bool


@dataclass(frozen=True, eq=False)
class Subject:
    """A network to prune, and the data to prune it with.

    Attributes:
        network: In eval mode; gives logits [N, classes], or those of several heads.
        inputs: [N, ...], unlabelled, from which units are chosen and repaired.
        tests: On which it is measured.
        about: Class names and shapes, as an exported file holds them.
    """

    network: nn.Module
    inputs: Tensor
    tests: tuple[TestData, ...]
    about: Mapping[str, Any]


def prune_subject(
    model: str,
    data: str | None,
    *,
    arguments: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    task: str | None = None,
    images: int = 1000,
) -> Subject:
    """Return the network and the data that a command line names.

    Args:
        model: "module:name", "timm:name", "transformers:name", a mapping as a config's `model`, a
            config file, or the directory of a run.
        data: Name of a built-in source, a file, a folder, "module:name", "hub:name", a mapping as
            a config's `stream.source`, or a config file. None for the data of the config or run.
        arguments: Keyword arguments of the network.
        weights: A safetensors file or a torch state dict; None for the weights it is made with.
        task: Of a run, the task as of which its network is taken; None for all of them.
        images: Most unlabelled inputs to keep.

    Raises:
        GrowmasError: Something does not exist or does not fit; names the option.
    """
    if (Path(model) / METRICS).is_file():
        return _of_run(Path(model), data, arguments, weights, task, images)
    if task is not None:
        raise RunError("--task belongs to a run: leave it out, or give the directory of a run")
    given = _model(model, arguments or {}, weights)
    own = given.pop("source", None)
    if data is None and own is None:
        raise RunError("say what data to use: --data with the name of a source, or a file")
    source = _source(data) if data is not None else own
    experiment = _experiment(given, source)
    train, test, labelled, classes = _samples(experiment)
    examples = train.take(slice(_EXAMPLES))
    network = _network(experiment, examples, classes)
    about = {
        "name": model,
        "task": None,
        "classes": list(classes),
        "input_shape": list(examples.shape[1:]),
        "input_type": str(examples.dtype).removeprefix("torch."),
        "normalised_inside": False,
    }
    drawn = _drawn([train], images)
    subject = Subject(network.eval(), drawn, (TestData(test, 0, labelled),), about)
    _check_outputs(subject, model)
    return subject


def _of_run(
    folder: Path,
    data: str | None,
    arguments: Mapping[str, Any] | None,
    weights: Path | None,
    task: str | None,
    images: int,
) -> Subject:
    """Return the network of a run, with its own data or other."""
    given = [name for name, each in (("--arg", arguments), ("--weights", weights)) if each]
    if given:
        raise RunError(f"{' and '.join(given)} has no effect with a run: leave it out")
    run = load_run(folder)
    with run.history:
        whole = run_network(run, task)
    tests = tuple(TestData(split, output, labelled=True) for split, output in whole.tests)
    train = whole.train
    if data is not None:
        if len(tests) > 1:
            raise RunError(
                "other data needs a single task: choose one with --task, or leave --data out"
            )
        experiment = _experiment({"kind": "mlp", "hidden": [1]}, _source(data))
        first, second, labelled, _ = _samples(experiment)
        train, tests = (first,), (TestData(second, tests[0].output, labelled),)
    about = {**whole.about, "stream_digest": run.metrics.stream_digest}
    subject = Subject(whole.network, _drawn(train, images), tests, about)
    _check_outputs(subject, str(folder))
    return subject


def _model(text: str, arguments: Mapping[str, Any], weights: Path | None) -> dict[str, Any]:
    """Return `model` of a config, and `source` where a config file has one."""
    kind, _, name = text.partition(":")
    found: dict[str, Any]
    if text.lstrip().startswith("{"):
        found = _mapping(text, "MODEL")
    elif text.endswith((".yaml", ".yml")) or find_config(Path(text)) != Path(text):
        experiment = load_config(text)
        found = experiment.model.model_dump(mode="json")
        source = getattr(experiment.stream, "source", None)
        if source is not None:
            plain = isinstance(source, str)
            found["source"] = source if plain else source.model_dump(mode="json")
    elif text.endswith((".pt2", ".onnx")):
        raise RunError(
            f"{text} is a program without layers, which cannot be pruned: give the network or the "
            "run that it was exported from"
        )
    elif kind in ("timm", "transformers") and name:
        found = {"kind": kind, "name": name}
    elif name and not Path(text).exists():
        found = {"kind": "python", "target": text}
    else:
        raise RunError(f"{text!r}: expected a network as {_FORMS}")
    if arguments:
        found["args"] = {**found.get("args", {}), **arguments}
    if weights is not None:
        found["weights"] = str(weights)
    return found


def _source(text: str) -> object:
    """Return `stream.source` of a config."""
    path = Path(text)
    if text in source_names():
        return text
    if text.lstrip().startswith("{"):
        return _mapping(text, "--data")
    if text.endswith((".yaml", ".yml")):
        experiment = load_config(text)
        source = getattr(experiment.stream, "source", None)
        if source is None:
            raise DataError(f"--data {text}: its stream has several sources: name one of them")
        return source if isinstance(source, str) else source.model_dump(mode="json")
    if path.suffix in _KINDS:
        return {"kind": _KINDS[path.suffix], "path": text}
    if path.is_dir():
        saved = any((path / each).is_file() for each in ("dataset_dict.json", "dataset_info.json"))
        idx = any(path.glob("*-idx?-ubyte*"))
        return {"kind": "hub" if saved else "idx" if idx else "folder", "path": text}
    kind, _, name = text.partition(":")
    if name:
        if kind == "hub":
            return {"kind": "hub", "name": name}
        return {"kind": "python", "target": text}
    hint = suggestion(text, source_names(), "source")
    raise DataError(f"--data {text}: neither a file, a folder nor a built-in source; {hint}")


def _mapping(text: str, option: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())[:120]
        raise ConfigError(f"{option}: not a valid mapping: {line}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{option}: expected a mapping such as {{kind: npz, path: my.npz}}")
    return found


def _experiment(model: dict[str, Any], source: object) -> Experiment:
    """Return an experiment that holds the model and the source, checked as any config is."""
    values: dict[str, Any] = {
        "name": "prune",
        "stream": {"kind": "split", "source": source, "tasks": 1, "scenario": "class"},
        "model": model,
        "method": {"kind": "finetune"},
        "training": {"epochs": 1, "learning_rate": 0.001},
    }
    here = Path.cwd()
    resolve(values, here)
    values["imports"] = list(dict.fromkeys([*values.get("imports", []), *sys.path[:1], str(here)]))
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        lines = [f"{_option(path)}: {text}" for path, text in explain(error)]
        raise ConfigError("\n".join(lines)) from error


def _option(path: KeyPath) -> str:
    """Return the option that a key of the config comes from, and the rest of the key."""
    option, rest = ("MODEL", path[1:]) if path[:1] == ("model",) else ("--data", path[2:])
    return f"{option}: {dotted(rest)}" if rest else option


def _located(error: GrowmasError, option: str) -> GrowmasError:
    start = ": ".join(filter(None, (option, dotted(error.key))))
    return type(error)("\n".join(f"{start}: {line}" for line in str(error).splitlines()))


def _samples(experiment: Experiment) -> tuple[Split, Split, bool, tuple[str, ...]]:
    """Return training and test samples, True if they have labels, and the class names."""
    source = getattr(experiment.stream, "source", None)
    try:
        bare = _unlabelled(source, experiment.imports)
        if bare is not None:
            split = Split(bare, torch.zeros(len(bare), dtype=torch.int64))
            return split, split, False, ()
        data: Dataset = build_source(source, experiment.imports)  # type: ignore[arg-type]
    except GrowmasError as error:
        raise _located(error, "--data") from error
    train = Split(data.train_inputs, data.train_labels, scaling=data.scaling)
    test = Split(data.test_inputs, data.test_labels, scaling=data.scaling)
    return train, test, True, data.classes


def _unlabelled(source: object, imports: Sequence[str]) -> Tensor | None:
    """Return the inputs of a source without labels; None where it has some."""
    if isinstance(source, NpzConfig):
        name = source.input or "x"
        names = array_names(Path(source.path))
        wanted = f"{name}_train" if f"{name}_train" in names else name
        label = (source.label or "y") + wanted.removeprefix(name)
        if label in names or wanted not in names:
            return None
        where = f"array {wanted} of {source.path}"
        inputs = as_tensor(read_array(Path(source.path), wanted), where)
        return _checked(inputs, source.inputs, where)
    if isinstance(source, PythonSourceConfig):
        value = call_target(source.target, source.args, folders=imports)
        if hasattr(value, "shape") and not isinstance(value, tuple | list):
            where = f"what {source.target} returned"
            return _checked(as_tensor(value, where), source.inputs, where)
    return None


def _checked(inputs: Tensor, form: Any, where: str) -> Tensor:
    inputs = shaped(inputs, form, where)
    if not len(inputs):
        raise DataError(f"{where} has no samples: expected at least one")
    if inputs.is_floating_point() and not bool(inputs.isfinite().all()):
        raise DataError(f"{where} must be finite, got NaN or infinity: correct or drop them")
    return inputs


def _network(experiment: Experiment, examples: Tensor, classes: Sequence[str]) -> nn.Module:
    """Build the network, with its weights; frozen parameters need no gradients."""
    config = experiment.model
    try:
        if not isinstance(config, GivenModelConfig):
            raise ConfigError(
                f"a network of kind {config.kind} is trained by runs: give the directory of one",
                key=("kind",),
            )
        for key in ("adapter", "head"):
            if getattr(config, key) is not None:
                raise ConfigError("has no effect here: leave it out", key=(key,))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = plain_network(config, examples, experiment.imports)
        if config.weights is not None:
            load_weights(network, Path(config.weights))
        freeze_parameters(network, config.freeze)
    except GrowmasError as error:
        raise _located(error, "MODEL") from error
    return network


def _drawn(splits: Sequence[Split], images: int) -> Tensor:
    """Return some inputs of all splits together, at random but always the same ones."""
    sizes = [len(split) for split in splits]
    rows = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(0))[:images]
    parts = []
    for split, size in zip(splits, sizes, strict=True):
        mine = rows[rows < size]
        rows = rows[rows >= size] - size
        if len(mine):
            parts.append(split.take(mine))
    return torch.cat(parts)


def _check_outputs(subject: Subject, model: str) -> None:
    """Refuse a network that does not give logits for the inputs."""
    (inputs, _), *_ = batches(subject.tests[0].split, _EXAMPLES)
    try:
        with torch.no_grad():
            outputs = float_tensors(subject.network(inputs))
    except Exception as error:  # whatever the network raises
        text = " ".join(str(error).split())[:300]
        raise RunError(
            f"{model} cannot take inputs of shape {tuple(inputs.shape)} and type {inputs.dtype}: "
            f"{type(error).__name__}: {text}"
        ) from error
    if not outputs or outputs[0].ndim < 2 or len(outputs[0]) != len(inputs):
        shape = tuple(outputs[0].shape) if outputs else "nothing"
        raise RunError(
            f"{model} returned {shape} for {len(inputs)} inputs: expected logits "
            f"({len(inputs)}, classes)"
        )
