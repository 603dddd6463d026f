"""Methods of the user, imported by the name of their class."""

import inspect
from collections.abc import Sequence

import torch

from growmas.config import PythonMethodConfig
from growmas.data import Stream
from growmas.data.targets import call_target, find_target
from growmas.errors import ConfigError
from growmas.structure import Structure
from growmas.training.methods import Method


def build_own_method(
    config: PythonMethodConfig,
    structure: Structure,
    *,
    stream: Stream,
    seed: int,
    imports: Sequence[str],
) -> Method:
    """Build a method of the user: `target(structure, **args)`.

    A constructor with a parameter `stream` or `seed` is given the stream or the seed, unless the
    config sets it. The global random state is left as it was.

    Args:
        config: The `method` of an experiment.
        structure: The units of the network.
        stream: What it will learn.
        seed: Of randomness of its own.
        imports: Folders in which modules of targets are found.

    Raises:
        ConfigError: The target cannot be imported or called, or does not give a `Method`.
    """
    found = find_target(config.target, imports)
    if isinstance(found, type) and not issubclass(found, Method):
        raise ConfigError(
            f"{config.target} is not a subclass of growmas.Method: class {found.__name__}(Method)",
            key=("target",),
        )
    try:
        wanted = {*inspect.signature(found).parameters} if callable(found) else set()
    except ValueError:
        wanted = set()
    offered = {"stream": stream, "seed": seed}
    given = {name: value for name, value in offered.items() if name in wanted}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        method = call_target(config.target, config.args, structure, folders=imports, **given)
    if not isinstance(method, Method):
        raise ConfigError(
            f"{config.target} returned a {type(method).__name__}: expected a growmas.Method",
            key=("target",),
        )
    if getattr(method, "structure", None) is not structure:
        raise ConfigError(
            f"{config.target} has no structure: call super().__init__(structure) first",
            key=("target",),
        )
    return method
