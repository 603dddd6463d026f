"""The settings of a penalty, and the parameters that their patterns match."""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, get_args

from growmas.errors import PenaltyError
from growmas.settings import is_number

Accumulate = Literal["sum", "mean", "exponential", "max"]
"""The combination of the importance of several tasks."""

Normalize = Literal["mean", "max"] | None
"""The statistic by which the importance of one task is divided before it is accumulated."""

Strength = float | Mapping[str, float]
"""λ for every parameter, or shell pattern -> λ; of several matching patterns the last counts."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return True if any of the patterns matches."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def strength_of(name: str, strength: Strength) -> float:
    """Return the strength of one parameter.

    Raises:
        PenaltyError: No pattern matches.
    """
    if not isinstance(strength, Mapping):
        return strength
    found = [value for pattern, value in strength.items() if fnmatchcase(name, pattern)]
    if not found:
        raise PenaltyError(
            f"strength: no pattern matches {name!r}; begin the mapping with '*': 1.0 for the rest"
        )
    return found[-1]


def check_strength(strength: Strength) -> None:
    """Refuse a strength that is not a finite number >= 0, or a mapping of patterns to such.

    Raises:
        PenaltyError: Names every wrong entry.
    """
    named = (
        {f"strength[{pattern!r}]": value for pattern, value in strength.items()}
        if isinstance(strength, Mapping)
        else {"strength": strength}
    )
    wrong = [f"{key}={value!r}" for key, value in named.items() if not _is_not_negative(value)]
    if wrong:
        raise PenaltyError(f"{', '.join(wrong)}: expected a finite number >= 0")


def check_used(key: str, patterns: Collection[str], names: Collection[str]) -> None:
    """Refuse patterns that match no name.

    Raises:
        PenaltyError: Names them all.
    """
    idle = [p for p in patterns if not any(fnmatchcase(name, p) for name in names)]
    if idle:
        raise PenaltyError(
            f"{key}={idle} does not match any parameter; there are {', '.join(names)}"
        )


def check_choices(accumulate: object, normalize: object, discount: object) -> None:
    """Refuse unknown words, and a discount that is not between 0 and 1.

    Raises:
        PenaltyError: Names the setting.
    """
    for key, word, known in (
        ("accumulate", accumulate, get_args(Accumulate)),
        ("normalize", normalize, ("mean", "max", None)),
    ):
        if word not in known:
            raise PenaltyError(f"{key}={word!r}: expected one of {', '.join(map(repr, known))}")
    check_share("discount", discount)


def check_positive(key: str, value: object) -> None:
    """Refuse a value that is not a finite number above 0.

    Raises:
        PenaltyError: Names the setting.
    """
    if not _is_not_negative(value) or value == 0:
        raise PenaltyError(f"{key}={value!r:.80}: expected a finite number > 0")


def check_not_negative(key: str, value: object) -> None:
    """Refuse a value that is not a finite number >= 0.

    Raises:
        PenaltyError: Names the setting.
    """
    if not _is_not_negative(value):
        raise PenaltyError(f"{key}={value!r:.80}: expected a finite number >= 0")


def check_share(key: str, value: object) -> None:
    """Refuse a value that is not a number between 0 and 1.

    Raises:
        PenaltyError: Names the setting.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise PenaltyError(f"{key}={value!r:.80}: expected a number between 0 and 1")


def _is_not_negative(value: object) -> bool:
    """Return True for a finite number >= 0."""
    return is_number(value) and isinstance(value, int | float) and value >= 0
