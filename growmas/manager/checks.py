"""The settings of policies and the data they measure on: what they may be."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from growmas.errors import PlanError
from growmas.structure import Structure
from growmas.structure.units.plan import unknown_group


def group_names(key: str, names: Iterable[str] | str) -> tuple[str, ...]:
    """Group names as a tuple; one name stands for itself.

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
        PlanError: Names the setting, what came, and what was expected.
    """
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not fits(value):
        raise PlanError(f"{key}={value!r}: expected {expected}")


def check_flag(key: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        PlanError: Names the setting and what came.
    """
    if not isinstance(value, bool):
        raise PlanError(f"{key}={value!r}: expected True or False")


def check_parts(parts: Mapping[str, tuple[object, type | tuple[type, ...]]]) -> None:
    """Refuse parts of a manager that are something else.

    Args:
        parts: Argument -> what came, and what it should be.

    Raises:
        PlanError: Names the argument, what came, and what was expected.
    """
    for key, (part, kinds) in parts.items():
        if not isinstance(part, kinds):
            named = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
            expected = " or ".join(named).replace("NoneType", "None")
            raise PlanError(f"{key}: expected {expected}, got {type(part).__name__}")


def group_problems(structure: Structure, named: Mapping[str, Iterable[str]]) -> list[str]:
    """What is wrong with the groups that policies name.

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
