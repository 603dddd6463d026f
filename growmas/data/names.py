"""Suggestions for mistyped names."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal

Scenario = Literal["task", "domain", "class"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to ``name``, or None if none is close."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the closest known name, or all of them.

    >>> did_you_mean("mnist", ["digits", "mnist5k"])
    'did you mean "mnist5k"?'
    >>> did_you_mean("cats", ["digits", "mnist5k"])
    'known: digits, mnist5k'
    """
    known = list(known)
    near = nearest(name, known)
    return f'did you mean "{near}"?' if near else f"known: {', '.join(known)}"
