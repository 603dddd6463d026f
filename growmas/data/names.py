"""Suggestions for mistyped names."""

from collections.abc import Iterable
from typing import Literal

from growmas.suggestion import closest

Scenario = Literal["task", "domain", "class"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the closest known name, or all of them.

    >>> did_you_mean("mnist", ["digits", "mnist5k"])
    'did you mean "mnist5k"?'
    >>> did_you_mean("cats", ["digits", "mnist5k"])
    'known: digits, mnist5k'
    """
    known = list(known)
    near = closest(name, known)
    return f'did you mean "{near}"?' if near else f"known: {', '.join(known)}"
