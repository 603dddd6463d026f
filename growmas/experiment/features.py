"""Features of a frozen network, computed once for a stream and kept on disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from growmas.config import Experiment, GivenModelConfig
from growmas.data import Split, Stream, Task, TaskFreeStream, batches
from growmas.data.splits import hash_of
from growmas.experiment.blame import blame
from growmas.experiment.networks import caches_features, features_of, raw_network
from growmas.experiment.randomness import derived_seed
from growmas.models.headed import output_of

_BATCH = 256


def with_frozen_features(experiment: Experiment, stream: Stream) -> Stream:
    """Return a stream of features where everything but the heads of a model is frozen.

    The features of each split are computed once and kept in a cache on disk: below
    `$GROWMAS_CACHE`, or `~/.cache/growmas`. They depend on the samples, on the weights, and on the
    version of torch.

    Args:
        experiment: With the model and the device.
        stream: Of the inputs of the network.

    Returns:
        Inputs [N, features]; the stream itself where the model is not frozen. The digest is that
        of the given stream.
    """
    config = experiment.model
    if not isinstance(config, GivenModelConfig) or not caches_features(experiment):
        return stream
    network = frozen_network(experiment, stream).to(experiment.device)
    weights = hashlib.sha256(f"{type(network)} {torch.__version__}".encode())
    for name, tensor in network.state_dict().items():
        weights.update(name.encode() + hash_of(tensor.cpu()))
    known: dict[int, bytes] = {}

    def features(split: Split) -> Split:
        key = hashlib.sha256(weights.digest() + split.digest(known)).hexdigest()[:32]
        found = _kept(cache_folder() / f"{key}.safetensors", network, split, experiment.device)
        return Split(found, split.labels)

    def task_of(task: Task) -> Task:
        held = features(task.validation) if task.validation else None
        return replace(task, train=features(task.train), test=features(task.test), validation=held)

    tasks = tuple(task_of(task) for task in stream.tasks)
    shape = tuple(tasks[0].train.inputs.shape[1:])
    return replace(stream, tasks=tasks, input_shape=shape, identity=stream.digest)


def frozen_network(experiment: Experiment, stream: Stream | TaskFreeStream) -> nn.Module:
    """Return the frozen network of an experiment, which gives features."""
    config = experiment.model
    if not isinstance(config, GivenModelConfig):
        raise TypeError(f"a model of kind {config.kind} is not frozen")
    examples = stream.tasks[0].train.take(slice(8))
    with blame(experiment, "model"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(experiment.seed, "model"))
        network = raw_network(config, examples, experiment.imports)
        return features_of(network, config.head)


def cache_folder() -> Path:
    """Return the folder in which features are kept."""
    given = os.environ.get("GROWMAS_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "growmas"


def _kept(path: Path, network: nn.Module, split: Split, device: str) -> Tensor:
    try:
        return load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):
        pass  # not computed yet, or not completely written
    parts = []
    with torch.no_grad():
        for inputs, _ in batches(split, _BATCH):
            parts.append(output_of(network(inputs.to(device))).flatten(1).cpu())
    found = torch.cat(parts).contiguous()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.new")
        save_file({"features": found}, fresh)
        fresh.replace(path)
    except (OSError, SafetensorError):
        pass  # a cache that cannot be written costs time, nothing else
    return found
