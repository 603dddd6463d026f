"""Suggestions for names that a history does not have."""

from collections.abc import Sequence

from growmas.suggestion import closest

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
    near = closest(wanted, valid)
    return f"it has: {listed}" if near is None else f"did you mean {near!r}? It has: {listed}"
