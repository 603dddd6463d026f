"""Transforms of training images, built from a config."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch

from growmas.config import (
    CropConfig,
    EraseConfig,
    Experiment,
    FlipConfig,
    PythonTransformConfig,
    TransformConfig,
)
from growmas.data import Split, Stream, TaskFreeStream
from growmas.data.names import did_you_mean
from growmas.data.targets import call_target, raised
from growmas.data.transforms import Crop, Erase, Flip, PerSample, SeededChain, Transform
from growmas.errors import ConfigError, DataError, GrowmasError
from growmas.experiment.blame import blame

_TRIED = 2  # samples


def build_transforms(
    experiment: Experiment, stream: Stream | TaskFreeStream
) -> tuple[Transform, ...]:
    """Build the transforms of an experiment, and try them on a few samples.

    Args:
        experiment: With `training.transforms`.
        stream: With the samples.

    Raises:
        GrowmasError: One does not fit the inputs, or cannot be imported; names file, line and key.
    """
    found = []
    for index, config in enumerate(experiment.training.transforms):
        with blame(experiment, "training", "transforms", index):
            transform = _transform(config, stream.input_shape, experiment.imports)
            _try(transform, stream.tasks[0].train)
            found.append(transform)
    return tuple(found)


def _transform(
    config: TransformConfig, shape: tuple[int, ...], imports: Iterable[str]
) -> Transform:
    if isinstance(config, PythonTransformConfig):
        function = call_target(config.target, config.args, folders=tuple(imports))
        if not callable(function):
            raise ConfigError(
                f"{config.target} returned a {type(function).__name__}: expected a function of "
                "one input",
                key=("target",),
            )
        return PerSample(function, config.target)
    if len(shape) != 3:
        raise DataError(
            f"transform {config.kind} changes images, but one input has shape {tuple(shape)}: "
            "leave it out",
            key=("kind",),
        )
    if isinstance(config, FlipConfig):
        return Flip(config.probability)
    if isinstance(config, CropConfig):
        return Crop(config.padding)
    if isinstance(config, EraseConfig):
        return Erase(config.size)
    return PerSample(_torchvision(config.name, config.args), f"torchvision's {config.name}")


def _try(transform: Transform, split: Split) -> None:
    change = SeededChain((transform,), seed=0)
    try:
        split.augmented(torch.arange(min(_TRIED, len(split))), change)
    except GrowmasError:
        raise
    except Exception as error:  # whatever a transform of others raises
        name = transform.name if isinstance(transform, PerSample) else type(transform).__name__
        raise DataError(f"{name} cannot change the inputs: {raised(error)}") from error


def _torchvision(name: str, args: dict[str, Any]) -> Any:
    try:
        module: Any = import_module("torchvision.transforms.v2")
    except Exception as error:  # also an installation that does not fit this torch
        raise ConfigError(
            f"transforms of kind torchvision need the package torchvision, which cannot be "
            f"imported ({error}): install it, or use flip, crop and erase",
            key=("kind",),
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, type):
        known = [each for each in vars(module) if each[:1].isupper()]
        raise ConfigError(
            f"torchvision.transforms.v2 has no {name!r}; {did_you_mean(name, known)}",
            key=("name",),
        )
    try:
        return found(**args)
    except Exception as error:  # whatever torchvision raises for its arguments
        raise ConfigError(
            f"torchvision cannot make a {name}: {raised(error)}", key=("args",)
        ) from error
