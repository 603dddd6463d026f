"""Overrides of a config that a caller gives: a list of texts, each `key=value`."""

from collections.abc import Iterable, Mapping

from growmas.config.formatting import show
from growmas.errors import ConfigError


def as_texts(given: object, what: str = "overrides, each key=value") -> tuple[str, ...]:
    """Return what a caller gave as texts.

    Args:
        given: A list of texts.
        what: What the texts are, for the message.

    Raises:
        ConfigError: It is something else, such as a single text.

    >>> as_texts("seed=1")
    Traceback (most recent call last):
    growmas.errors.ConfigError: expected a list of overrides, each key=value, got "seed=1"
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"expected a list of {what}, got {show(given)}")
    texts = tuple(given)
    for each in texts:
        if not isinstance(each, str):
            raise ConfigError(f"expected a list of {what}, got {show(each)} in it")
    return texts
