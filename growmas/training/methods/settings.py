"""Checks of the settings of methods."""

from collections.abc import Collection
from functools import partial

from growmas.errors import ConfigError
from growmas.settings import Setting, is_number, is_whole, refuse_settings

check_settings = partial(refuse_settings, ConfigError)


def number(value: object, *, least: float) -> Setting:
    """Return a number that is at least `least` as a setting."""
    fits = is_number(value) and value >= least  # type: ignore[operator]
    return value, fits, f"a number that is {least:g} or more"


def above(
    value: object, bound: float = 0.0, *, most: float | None = None, none: bool = False
) -> Setting:
    """Return a number above a bound, and at most `most`, or None where allowed, as a setting."""
    fits = is_number(value) and value > bound and (most is None or value <= most)  # type: ignore[operator]
    upper = "" if most is None else f", up to {most:g}"
    words = f"a number above {bound:g}{upper}{', or None' if none else ''}"
    return value, fits or (none and value is None), words


def between(value: object, low: float, high: float) -> Setting:
    """Return a number between two others as a setting."""
    fits = is_number(value) and low < value < high  # type: ignore[operator]
    return value, fits, f"a number between {low:g} and {high:g}"


def whole(value: object, *, least: int, none: bool = False) -> Setting:
    """Return a whole number, or None where that is allowed, as a setting."""
    fits = is_whole(value, least) or (none and value is None)
    return value, fits, f"a whole number >= {least}{', or None' if none else ''}"


def word(value: object, words: Collection[str | None]) -> Setting:
    """Return one of some words as a setting."""
    return value, value in words, f"one of {', '.join(map(repr, words))}"
