"""Checks of the settings of policies and the parts of a manager."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from growmas.errors import PlanError
from growmas.structure import Structure
from growmas.structure.units.plan import unknown_group


def group_names(key: str, names: Iterable[str] | str) -> tuple[str, ...]:
    """Return group names as a tuple; a single name becomes a tuple of one.

    Raises:
        PlanError: Something is not a name.
    """
    found = (names,) if isinstance(names, str) else names
    if not isinstance(found, Iterable) or not all(isinstance(name, str) for name in found):
        raise PlanError(f"{key}={names!r}: expected names of groups, such as ('fc1',)")
    return tuple(found)


def check_number(
    key: str, value: object, expected: str, fits: Callable[[Any], bool], *, whole: bool = False
) -> None:
    """Refuse a setting that is out of range.

    Raises:
        PlanError: Names the setting, the value given, and what was expected.
    """
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not fits(value):
        raise PlanError(f"{key}={value!r}: expected {expected}")


def check_flag(key: str, value: object) -> None:
    """Refuse a value that is neither True nor False.

    Raises:
        PlanError: Names the setting and the value given.
    """
    if not isinstance(value, bool):
        raise PlanError(f"{key}={value!r}: expected True or False")


def check_parts(parts: Mapping[str, tuple[object, type | tuple[type, ...]]]) -> None:
    """Refuse parts of a manager that have the wrong type.

    Args:
        parts: Argument -> the value given, and the types it may have.

    Raises:
        PlanError: Names the argument, what was expected, and the type given.
    """
    for key, (part, kinds) in parts.items():
        if not isinstance(part, kinds):
            named = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
            expected = " or ".join(named).replace("NoneType", "None")
            raise PlanError(f"{key}: expected {expected}, got {type(part).__name__}")


def group_problems(structure: Structure, named: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a message for every group that a policy names and that does not exist.

    Args:
        structure: The network.
        named: Policy -> the groups it names.
    """
    return [
        f"{policy}: {unknown_group(name, structure.groups, structure.fixed)}"
        for policy, names in named.items()
        for name in names
        if name not in structure.groups
    ]


def check_functions(given: Mapping[str, Any]) -> None:
    """Refuse a forward, a loss or a trial that cannot be called.

    Raises:
        PlanError: Names it.
    """
    for key in ("forward", "loss", "trial"):
        if given.get(key) is not None and not callable(given[key]):
            raise PlanError(f"{key}={given[key]!r:.80}: expected a function, or None")


def check_word(key: str, value: object, known: Sequence[str]) -> None:
    """Refuse an unknown word.

    Raises:
        PlanError: Names the setting and the words known.
    """
    if value not in known:
        raise PlanError(f"{key}={value!r}: expected one of {', '.join(map(repr, known))}")
