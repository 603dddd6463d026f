"""Models, and the structures of their units, built from a config."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from growmas.config import Experiment, MLPConfig, ModelConfig
from growmas.data import Stream, TaskFreeStream
from growmas.experiment.randomness import derived_seed, random_generator
from growmas.models import MLP, ConvNet, MultiHead, SeparateNetworks
from growmas.structure import Structure

EXAMPLES = 8
"""Real samples on which every edit is verified."""


def build_model(
    config: ModelConfig,
    input_shape: tuple[int, int, int],
    head_sizes: Sequence[int],
    *,
    seed: int,
) -> MultiHead:
    """Build the model a config describes, on the CPU, with weights that depend on `seed` alone.

    The global random state is left as it was.

    Args:
        config: The `model` of an experiment.
        input_shape: Shape of one sample, as a stream gives it.
        head_sizes: Number of outputs of each head, as a stream gives them.
        seed: Of the initial weights.
    """
    with _seeded(seed):
        return _build(config, input_shape, head_sizes)


def build_separate(
    config: ModelConfig,
    input_shape: tuple[int, int, int],
    head_sizes: Sequence[int],
    *,
    seed: int,
) -> SeparateNetworks:
    """Build a network for each head instead of one with all of them; see `build_model`."""
    with _seeded(seed):
        return SeparateNetworks([_build(config, input_shape, [size]) for size in head_sizes])


def build_structure(
    experiment: Experiment, stream: Stream | TaskFreeStream, *, heads: int | None = None
) -> Structure:
    """Build the model of an experiment on its device, and the structure of its units.

    Args:
        experiment: With the model, the method, the device and the seed.
        stream: Tells the shape of inputs and heads.
        heads: Number of heads of the size of the stream's first; None for the stream's own heads.
    """
    sizes = stream.head_sizes if heads is None else (stream.head_sizes[0],) * heads
    build = build_separate if experiment.method.kind == "separate" else build_model
    seed = derived_seed(experiment.seed, "model")
    model = build(experiment.model, stream.input_shape, sizes, seed=seed)
    examples = stream.tasks[0].train.inputs[:EXAMPLES].to(experiment.device)
    generator = random_generator(experiment.seed, "growth")
    return Structure(model.to(experiment.device), examples, generator=generator)


def _build(
    config: ModelConfig, input_shape: tuple[int, int, int], head_sizes: Sequence[int]
) -> MultiHead:
    if isinstance(config, MLPConfig):
        return MLP(input_shape, config.hidden, head_sizes)
    return ConvNet(input_shape, config.channels, config.hidden, head_sizes)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
