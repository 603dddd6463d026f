"""From a config to a model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from growmas.config import MLPConfig, ModelConfig
from growmas.models.convnet import ConvNet
from growmas.models.mlp import MLP
from growmas.models.multihead import MultiHead
from growmas.models.separate import SeparateNetworks


def build_model(
    config: ModelConfig,
    input_shape: tuple[int, int, int],
    head_sizes: Sequence[int],
    *,
    seed: int,
) -> MultiHead:
    """Build the model a config describes, on the CPU, with weights that depend on ``seed`` alone.

    The global random state is left as it was.

    Args:
        config: the ``model`` of an experiment.
        input_shape: of one sample, as a stream says.
        head_sizes: the number of outputs of each head, as a stream says.
        seed: of the initial weights.
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
