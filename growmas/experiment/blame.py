"""Errors of parts that are built from a config, with the file, the line and the key to change."""

from collections.abc import Iterator
from contextlib import contextmanager

from growmas.config import Experiment
from growmas.config.formatting import KeyPath, dotted
from growmas.errors import GrowmasError


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


def located(error: GrowmasError, experiment: Experiment, path: KeyPath) -> GrowmasError:
    """Return an error of the same kind whose message names the file, the line and the key."""
    key = (*path, *error.key)
    start = ": ".join(filter(None, (experiment.origins.nearest(key), dotted(key))))
    text = "\n".join(f"{start}: {line}" for line in str(error).splitlines())
    found = type(error)(text, key=key)
    found.located = True
    return found
