"""Suggestions for names that a history does not have."""

from collections.abc import Sequence
from difflib import SequenceMatcher

_LEAST_SIMILAR = 0.6  # the ratio from which difflib calls two texts close matches
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
    similarity = [_similarity(wanted, name) for name in valid]
    if max(similarity) < _LEAST_SIMILAR:
        return f"it has: {listed}"
    return f"did you mean {valid[similarity.index(max(similarity))]!r}? It has: {listed}"


def _similarity(first: str, second: str) -> float:
    return SequenceMatcher(None, first.lower(), second.lower()).ratio()
