"""The settings of policies and the data they measure on: what they may be."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from growmas.errors import PlanError
from growmas.structure import Structure
from growmas.structure.plan import unknown_group


def group_names(key: str, names: Iterable[str] | str) -> tuple[str, ...]:
    """Group names as a tuple; one name stands for itself.

    Raises:
        PlanError: Something is not a name.
    """
    found = (names,) if isinstance(names, str) else tuple(names)
    wrong = [name for name in found if not isinstance(name, str)]
    if wrong:
        raise PlanError(f"{key}={found}: expected names of groups, such as ('fc1',)")
    return found


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
