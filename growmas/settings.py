"""Checks of settings: numbers in range, and one message for all that are not."""

import math

from growmas.errors import GrowmasError

_LARGEST = 2**1023  # an int beyond it is not a float

Setting = tuple[object, bool, str]
"""The value given, whether it is in range, and what was expected."""


def refuse_settings(kind: type[GrowmasError], /, **settings: Setting) -> None:
    """Refuse settings out of range, all at once.

    Args:
        kind: The error to raise.
        settings: Name -> setting.

    Raises:
        GrowmasError: Of that kind; names each wrong setting.

    >>> refuse_settings(GrowmasError, window=(0, False, "a whole number >= 2"))
    Traceback (most recent call last):
    growmas.errors.GrowmasError: window=0: expected a whole number >= 2
    """
    wrong = [
        f"{name}={value!r:.80}: expected {words}"
        for name, (value, fits, words) in settings.items()
        if not fits
    ]
    if wrong:
        raise kind("\n".join(wrong))


def is_whole(value: object, least: int | None = None) -> bool:
    """Return True for an int that is at least `least`."""
    return type(value) is int and (least is None or value >= least)


def is_number(value: object) -> bool:
    """Return True for an int or a float that is not NaN or infinite."""
    if not isinstance(value, int | float) or type(value) is bool:
        return False
    return abs(value) < math.inf if isinstance(value, float) else abs(value) < _LARGEST
