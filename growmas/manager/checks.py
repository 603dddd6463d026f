"""The settings of policies and the data they measure on: what they may be."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from growmas.errors import DataError, PlanError
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


_OF_SHAPES = ("shape", "size of tensor", "dimension", "channels")
"""What torch's errors about shapes speak of; other errors are not of the data."""


@contextmanager
def data_that_fits() -> Iterator[None]:
    """Say of data whose shape the network cannot take that it is the data.

    Raises:
        DataError: With what torch says of the shapes.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in _OF_SHAPES):
            raise
        raise DataError(
            f"a batch does not go through the network: {error}. Nothing was changed; give batches "
            "whose samples have the shape the network takes, or forward=lambda model, batch: ..."
        ) from error


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
