"""Networks of the user, and of other packages, built from a config."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from growmas.config import (
    Experiment,
    GivenModelConfig,
    PythonModelConfig,
    TaskFreeConfig,
    TimmConfig,
)
from growmas.data.targets import call_target, find_target, raised
from growmas.errors import ConfigError
from growmas.models import HeadedNetwork, load_weights
from growmas.models.headed import check_head, find_head
from growmas.suggestion import closest


def caches_features(experiment: Experiment) -> bool:
    """Return True if everything but heads and adapter is frozen, so that features are kept.

    They are computed once. On a turning stream, every batch of which is rotated by another angle,
    the frozen network is run at every step instead.
    """
    stream = experiment.stream
    turning = isinstance(stream, TaskFreeConfig) and stream.of == "turning"
    return "*" in getattr(experiment.model, "freeze", ()) and not turning


def build_given(
    config: GivenModelConfig, head_sizes: Sequence[int], examples: Tensor, imports: Sequence[str]
) -> HeadedNetwork:
    """Build a network of the user, with a head for each task in place of its last layer.

    Args:
        config: The `model` of an experiment.
        head_sizes: Number of outputs of each head.
        examples: Some inputs, on which the network is tried.
        imports: Folders in which modules of targets are found.

    Raises:
        ConfigError: It cannot be imported, does not fit the inputs, or its weights do not fit.
    """
    network = raw_network(config, examples, imports)
    return HeadedNetwork(
        network,
        head_sizes,
        head=config.head,
        adapter=config.adapter or (),
        freeze=config.freeze,
    )


def raw_network(config: GivenModelConfig, examples: Tensor, imports: Sequence[str]) -> nn.Module:
    """Build the network itself, filled with its weights and tried on the examples."""
    made = plain_network(config, examples, imports)
    head, _ = find_head(made, config.head)
    if config.weights is not None:
        load_weights(made, Path(config.weights), but=head)
    check_head(made, examples, head, network_label(config))
    return made


def plain_network(config: GivenModelConfig, examples: Tensor, imports: Sequence[str]) -> nn.Module:
    """Build the network itself, with the weights that it is made with.

    A target may be a class, a function that returns a network, or a network, which is copied.

    Raises:
        ConfigError: It cannot be imported or built, or is not a network.
    """
    if isinstance(config, TimmConfig):
        made = _timm(config, examples)
    elif isinstance(config, PythonModelConfig):
        found = find_target(config.target, imports)
        if isinstance(found, nn.Module):
            made = copy.deepcopy(found)
        else:
            made = call_target(config.target, config.args, folders=imports)
    else:
        made = _transformers(config, examples)
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"{network_label(config)} returned a {type(made).__name__}: expected a torch.nn.Module",
            key=("target",),
        )
    return made


def network_label(config: GivenModelConfig) -> str:
    """Return what a config calls its network, for messages."""
    return config.target if isinstance(config, PythonModelConfig) else config.name


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except Exception as error:  # also an installation that does not fit this torch
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        remedy = f"pip install {name}" if absent else "install versions that fit this torch"
        raise ConfigError(
            f"models of kind {name} need the package {name}, which cannot be imported "
            f"({error}): {remedy}",
            key=("kind",),
        ) from error


def _timm(config: TimmConfig, examples: Tensor) -> Any:
    timm = _package("timm")
    channels = {"in_chans": examples.shape[1]} if examples.ndim == 4 else {}
    try:
        return timm.create_model(
            config.name, pretrained=config.pretrained, **{**channels, **config.args}
        )
    except Exception as error:  # whatever timm or the hub raises
        raise ConfigError(
            f"timm cannot build {config.name!r}: {raised(error)}", key=("name",)
        ) from error


def _transformers(config: Any, examples: Tensor) -> Any:
    transformers = _package("transformers")
    if not config.pretrained and config.name not in transformers.CONFIG_MAPPING:
        near = closest(config.name, list(transformers.CONFIG_MAPPING))
        hint = f'did you mean "{near}"?' if near else "expected one such as vit or bert"
        raise ConfigError(
            f"transformers has no architecture {config.name!r}; {hint}", key=("name",)
        )
    images = examples.ndim == 4
    kind = (
        transformers.AutoModelForImageClassification
        if images
        else transformers.AutoModelForSequenceClassification
    )
    try:
        if config.pretrained:
            return kind.from_pretrained(config.name, **config.args)
        given = {"num_channels": examples.shape[1], "image_size": examples.shape[2]}
        args = {**(given if images else {}), **config.args}
        made = transformers.AutoConfig.for_model(config.name, **args)
        # exact importance maps the backward pass over samples, which fused attention cannot do
        return kind.from_config(made, attn_implementation="eager")
    except Exception as error:  # whatever transformers or the hub raises
        raise ConfigError(
            f"transformers cannot build {config.name!r}: {raised(error)}", key=("name",)
        ) from error


def features_of(network: nn.Module, head: str | None) -> nn.Module:
    """Return a network that gives what its last layer reads; in eval mode, without gradients."""
    name, _ = find_head(network, head)
    parent = network.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], nn.Identity())
    return network.eval().requires_grad_(False)
