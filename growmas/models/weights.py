"""Weights of a network, read from a file without pickle's code."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from growmas.errors import ConfigError

_NESTED = ("state_dict", "model", "model_state_dict", "weights")
_NAMED = 3  # differences in a message


def load_weights(network: nn.Module, path: Path, *, but: str = "") -> None:
    """Fill a network from a safetensors file or a torch state dict.

    Args:
        network: To fill.
        path: Of the file.
        but: Name of a layer that keeps its weights where those of the file are of another shape, or
            missing: the last layer, which is replaced anyway.

    Raises:
        ConfigError: The file cannot be read, or does not fit; names the tensors.
    """
    given = _read(path)
    wanted = network.state_dict()
    skipped = {
        name
        for name in {*given, *wanted}
        if but
        and name.startswith(f"{but}.")
        and (name not in given or name not in wanted or given[name].shape != wanted[name].shape)
    }
    problems = [
        f"{name} is missing" for name in wanted if name not in given and name not in skipped
    ]
    problems += [
        f"{name} is not in the network"
        for name in given
        if name not in wanted and name not in skipped
    ]
    problems += [
        f"{name} has shape {tuple(given[name].shape)}, the network {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and name not in skipped and given[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise ConfigError(
            f"{path} does not fit the network: {'; '.join(problems[:_NAMED])}{more}: use the "
            "weights of this architecture, or change its args",
            key=("weights",),
        )
    network.load_state_dict({**wanted, **{n: t for n, t in given.items() if n not in skipped}})


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist: give a path relative to the config, or absolute",
            key=("weights",),
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols of pickle; the error says enough
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is something else makes them raise
        text = "it holds other objects than tensors"
        if not isinstance(error, pickle.UnpicklingError):
            text = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{path} is not a safetensors file or a torch state dict ({text}): save it with "
            "safetensors.torch.save_file(net.state_dict(), path)",
            key=("weights",),
        ) from error
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ConfigError(
            f"{path} holds a {type(found).__name__}: expected a state dict of tensors",
            key=("weights",),
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}
