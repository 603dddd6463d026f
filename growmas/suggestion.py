"""Suggestions for a name that does not exist: the known name that was probably meant.

Free of torch, so that configs, histories and the command line can use it too.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

CUTOFF = 0.65
"""Least share of characters that two names must have in common, in order (`difflib`'s ratio)."""

LISTED = 20
"""Longest list of known names in a message."""


def closest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that `name` is most likely a misspelling of, or None.

    Names with other numbers are different names, not misspellings, however similar they look; only
    a missing or an additional digit at the end counts as a misspelling.

    >>> closest("strenght", ["strength", "exclude"])
    'strength'
    >>> closest("fc", ["fc1", "fc2"]), closest("fc11", ["fc1", "fc2"])
    ('fc1', 'fc1')
    >>> print(closest("fc3", ["fc1", "fc2"]), closest("nothere", ["anchor"]))
    None None
    """
    if not isinstance(name, str):  # an index, for instance, is not a misspelling
        return None
    similar = {
        each: SequenceMatcher(None, name.lower(), each.lower()).ratio()
        for each in known
        if _same_numbers(_numbers(name), _numbers(each))
    }
    best = max(similar, key=lambda each: similar[each], default=None)
    return best if best is not None and similar[best] >= CUTOFF else None


def suggestion(name: str, known: Iterable[str], kind: str) -> str:
    """Return the end of an error message about an unknown name.

    Args:
        name: The name that does not exist.
        known: Those that do.
        kind: What they are names of, in the singular; its plural takes an s.

    >>> suggestion("secnd", ["first", "second"], "group")
    "did you mean 'second'?"
    >>> suggestion("fc1", ["0"], "group")
    "the only group is '0'"
    >>> suggestion("fc1", ["0", "2"], "group"), suggestion("fc1", [], "group")
    ("the 2 groups are '0', '2'", 'there are no groups')
    """
    names = list(known)
    near = closest(name, names)
    return f"did you mean {near!r}?" if near is not None else existing(names, kind)


def existing(known: Iterable[str], kind: str) -> str:
    """Return the known names in words, quoted and counted; a long list is cut.

    >>> existing([f"layers.{n}" for n in range(23)], "layer")[:28], existing(["0"], "group")
    ("the 23 layers are 'layers.0'", "the only group is '0'")
    """
    names = list(known)
    if not names:
        return f"there are no {kind}s"
    if len(names) == 1:
        return f"the only {kind} is {names[0]!r}"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"the {len(names)} {kind}s are {', '.join(map(repr, names[:LISTED]))}{more}"


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def _same_numbers(first: list[str], second: list[str]) -> bool:
    """Return True if names with these numbers may be the same name, one of them misspelt."""
    if not (first and second):
        return True
    return len(first) == len(second) and all(
        a.startswith(b) or b.startswith(a) for a, b in zip(first, second, strict=True)
    )
