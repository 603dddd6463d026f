"""Suggestions for names that a history does not have."""

from collections.abc import Sequence
from difflib import get_close_matches

_MOST_LISTED = 12


def suggest(wanted: str, valid: Sequence[str]) -> str:
    """Return the end of an error message: a name that is nearly `wanted`, and the valid names.

    >>> suggest("fc11", ["fc1", "fc2"]), suggest("99", ["8/9"])
    ("did you mean 'fc1'? It has: fc1, fc2", 'it has: 8/9')
    """
    if not valid:
        return "it has none"
    shown = valid if len(valid) <= _MOST_LISTED else [*valid[: _MOST_LISTED - 1], "…"]
    listed = ", ".join(shown)
    lower = {name.lower(): name for name in reversed(valid)}
    near = get_close_matches(wanted.lower(), lower, n=1)
    return f"did you mean {lower[near[0]]!r}? It has: {listed}" if near else f"it has: {listed}"
