"""Values of keys to tune, as overrides write them."""

import json
import re
from collections.abc import Mapping

import yaml

from growmas.config import Range
from growmas.config.yaml_loader import Loader

_WORD = re.compile(r"[\w.+-]+")


def end_points(keys: Mapping[str, Range | tuple[object, ...]]) -> dict[str, list[str]]:
    """Return key -> values in YAML to check: those of a list, or the ends of a range."""
    return {
        key: list(map(in_yaml, (values.low, values.high) if isinstance(values, Range) else values))
        for key, values in keys.items()
    }


def in_yaml(value: object) -> str:
    """Return a value as an override has it.

    >>> [in_yaml(value) for value in ("sgd", "a, b", "null", 0.5, [64, 64])]
    ['sgd', '"a, b"', '"null"', '0.5', '[64, 64]']
    """
    plain = isinstance(value, str) and _WORD.fullmatch(value) and yaml.load(value, Loader) == value
    return str(value) if plain else json.dumps(value)
