"""Errors of parts that are built from a config, with the file, the line and the key to change."""

from collections.abc import Iterator
from contextlib import contextmanager

from growmas.config import Experiment, PythonMethodConfig
from growmas.config.formatting import KeyPath, dotted
from growmas.data.targets import passes_target, raised
from growmas.errors import ConfigError, GrowmasError


@contextmanager
def blame(experiment: Experiment, *path: str | int) -> Iterator[None]:
    """Name the place and the key of the setting to change in every error of the block.

    Args:
        experiment: Read from a file; without one, errors name the key alone.
        *path: Keys that lead to the part that is built.
    """
    try:
        yield
    except GrowmasError as error:
        if error.located:
            raise
        raise located(error, experiment, path) from error


@contextmanager
def blame_own(experiment: Experiment) -> Iterator[None]:
    """Name the method of the user in the errors that it raises, and in those about what it returns.

    Args:
        experiment: For a method of growmas, errors stay as they are.
    """
    method = experiment.method
    if not isinstance(method, PythonMethodConfig):
        yield
        return
    try:
        yield
    except ConfigError as error:
        raise error if error.located else located(error, experiment, ("method",)) from error
    except (GrowmasError, OSError, MemoryError):
        raise
    except Exception as error:
        if not passes_target(error, method.target):
            raise
        text = f"{method.target} raised {raised(error)}"
        raise located(ConfigError(text, key=("target",)), experiment, ("method",)) from error


def located(error: GrowmasError, experiment: Experiment, path: KeyPath) -> GrowmasError:
    """Return an error of the same kind whose message names the file, the line and the key."""
    key = (*path, *error.key)
    start = ": ".join(filter(None, (experiment.origins.nearest(key), dotted(key))))
    text = "\n".join(f"{start}: {line}" for line in str(error).splitlines())
    found = type(error)(text, key=key)
    found.located = True
    return found
