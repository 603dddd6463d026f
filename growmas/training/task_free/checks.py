"""Checks of settings and states of task-free learners."""

from collections.abc import Mapping
from typing import Any

from growmas.errors import ShiftError


def check_numbers(**numbers: tuple[object, int]) -> None:
    """Refuse settings that are not whole numbers of at least some size.

    Args:
        numbers: Name -> (value, the least it may be).

    Raises:
        ShiftError: Names the first.
    """
    for name, (number, least) in numbers.items():
        if type(number) is not int or number < least:
            raise ShiftError(f"{name}={number!r}: expected a whole number >= {least}")


def check_complete(
    state: Mapping[str, Any], expected: Mapping[str, Any], *, optional: tuple[str, ...] = ()
) -> None:
    """Refuse a state that lacks keys.

    Args:
        state: To check.
        expected: With all keys.
        optional: Keys that states of earlier versions lack.

    Raises:
        ShiftError: Names the keys.
    """
    missing = sorted(expected.keys() - state.keys() - {*optional})
    if missing:
        raise ShiftError(f"the state of the learner lacks {', '.join(missing)}")
