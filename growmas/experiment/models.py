"""Models, and the structures of their units, built from a config."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from growmas.config import (
    ConvNetConfig,
    Experiment,
    MLPConfig,
    ModelConfig,
    ResNetConfig,
    ViTConfig,
)
from growmas.data import Stream, TaskFreeStream
from growmas.errors import ConfigError, SurgeryError
from growmas.experiment.blame import blame
from growmas.experiment.limits import check_memory
from growmas.experiment.networks import build_given, caches_features
from growmas.experiment.randomness import derived_seed, random_generator
from growmas.models import MLP, ConvNet, MultiHead, ResNet, SeparateNetworks, ViT
from growmas.models.normed import add_layer_norms
from growmas.structure import Structure, add_gains

_BuiltIn = MLPConfig | ConvNetConfig | ResNetConfig | ViTConfig

EXAMPLES = 8
"""Real samples on which every edit is verified."""


def build_model(
    config: ModelConfig,
    input_shape: Sequence[int],
    head_sizes: Sequence[int],
    *,
    seed: int,
    examples: Tensor | None = None,
    imports: Sequence[str] = (),
    on_features: bool = False,
) -> MultiHead:
    """Build the model a config describes, on the CPU, with weights that depend on `seed` alone.

    The global random state is left as it was.

    Args:
        config: The `model` of an experiment.
        input_shape: Shape of one sample, as a stream gives it.
        head_sizes: Number of outputs of each head, as a stream gives them.
        seed: Of the initial weights.
        examples: Some inputs, on which a network of the user is tried.
        imports: Folders in which modules of targets are found.
        on_features: Inputs are features of the frozen part: build what comes after it alone.

    Raises:
        ConfigError: The model does not fit the inputs, or cannot be imported.
    """
    if examples is None:
        examples = torch.zeros(2, *input_shape)
    with _seeded(seed):
        return _build(config, input_shape, head_sizes, examples, imports, on_features)


def build_separate(
    config: ModelConfig,
    input_shape: Sequence[int],
    head_sizes: Sequence[int],
    *,
    seed: int,
    examples: Tensor | None = None,
    imports: Sequence[str] = (),
    on_features: bool = False,
) -> SeparateNetworks:
    """Build a network for each head instead of one with all of them; see `build_model`."""
    if examples is None:
        examples = torch.zeros(2, *input_shape)
    with _seeded(seed):
        return SeparateNetworks(
            [
                _build(config, input_shape, [size], examples, imports, on_features)
                for size in head_sizes
            ]
        )


def build_structure(
    experiment: Experiment, stream: Stream | TaskFreeStream, *, heads: int | None = None
) -> Structure:
    """Build the model of an experiment on its device, and the structure of its units.

    Layers that are frozen neither grow nor shrink.

    Args:
        experiment: With the model, the method, the device and the seed.
        stream: Tells the shape of inputs and heads.
        heads: Number of heads of the size of the stream's first; None for the stream's own heads.

    Raises:
        ConfigError: The model does not fit the inputs; names the file, line and key.
        RunError: The model does not fit into memory.
    """
    sizes = stream.head_sizes if heads is None else (stream.head_sizes[0],) * heads
    build = build_separate if experiment.method.kind == "separate" else build_model
    examples = stream.tasks[0].train.take(slice(EXAMPLES))
    with blame(experiment, "model"):
        if isinstance(experiment.model, _BuiltIn):
            _check_size(experiment.model, stream.input_shape, sizes, experiment)
        model = build(
            experiment.model,
            stream.input_shape,
            sizes,
            seed=derived_seed(experiment.seed, "model"),
            examples=examples,
            imports=experiment.imports,
            on_features=caches_features(experiment),
        )
        generator = random_generator(experiment.seed, "growth")
        examples = examples.to(experiment.device)
        try:
            model = model.to(experiment.device)
            if experiment.method.kind == "layernorm":
                add_layer_norms(model, examples)
            if "gains" in getattr(experiment.method, "per_task", ()):
                add_gains(model, examples)
            structure = Structure(model, examples, generator=generator)
        except SurgeryError as error:
            raise SurgeryError(f"the units of the network cannot be found: {error}") from error
    keep_frozen(structure)
    return structure


def _check_size(
    config: _BuiltIn, input_shape: Sequence[int], sizes: Sequence[int], experiment: Experiment
) -> None:
    """Refuse a network that does not fit into memory."""
    networks = [[size] for size in sizes] if experiment.method.kind == "separate" else [sizes]

    def sketch() -> nn.Module:
        return nn.ModuleList(_built_in(config, input_shape, heads) for heads in networks)

    check_memory(sketch, experiment.device)


def keep_frozen(structure: Structure) -> None:
    """Let groups that a frozen layer gives or reads stay as they are."""
    frozen = {
        name
        for name, module in structure.model.named_modules()
        if any(not each.requires_grad for each in module.parameters(recurse=False))
    }
    held = [name for name, group in structure.groups.items() if frozen & {*group.layers}]
    structure.keep_width(held, "a layer of it is frozen")


def _build(
    config: ModelConfig,
    input_shape: Sequence[int],
    head_sizes: Sequence[int],
    examples: Tensor,
    imports: Sequence[str],
    on_features: bool,
) -> MultiHead:
    if not isinstance(config, _BuiltIn):
        if on_features:
            return MLP(input_shape, config.adapter or (), head_sizes)
        return build_given(config, head_sizes, examples, imports)
    if not examples.is_floating_point():
        raise ConfigError(
            f"kind {config.kind} cannot read tokens: use kind python or transformers, or set "
            "inputs: vectors in the source if they are features",
            key=("kind",),
        )
    return _built_in(config, input_shape, head_sizes)


def _built_in(config: _BuiltIn, input_shape: Sequence[int], head_sizes: Sequence[int]) -> MultiHead:
    if isinstance(config, MLPConfig):
        return MLP(input_shape, config.hidden, head_sizes)
    if len(input_shape) != 3:
        raise ConfigError(
            f"kind {config.kind} reads images, but one input has shape {tuple(input_shape)}: use "
            "kind mlp or python",
            key=("kind",),
        )
    channels, height, width = input_shape
    if isinstance(config, ResNetConfig):
        return ResNet(input_shape, config.channels, config.blocks, head_sizes)
    if isinstance(config, ViTConfig):
        return ViT(
            input_shape,
            patch=config.patch,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            hidden=config.hidden,
            head_sizes=head_sizes,
        )
    return ConvNet((channels, height, width), config.channels, config.hidden, head_sizes)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
