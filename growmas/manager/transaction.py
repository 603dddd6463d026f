"""The transaction that every step of a manager runs in: all of it happens, or nothing."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from growmas.history.tracker import TopologyTracker
from growmas.rollback import restored_on_error
from growmas.structure import Structure


class Managed(Protocol):
    """The part of a manager that a transaction uses.

    Attributes:
        structure: The units.
        followers: Everything that follows an edit.
    """

    structure: Structure
    followers: tuple[object, ...]

    @property
    def changing_parts(self) -> tuple[object, ...]:
        """Parts that a step changes besides structure and followers."""

    @property
    def trackers(self) -> tuple[TopologyTracker, ...]:
        """The histories that a step writes to."""


P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Managed)


def transactional(call: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Run a method of a manager alone, and leave everything as it was if it raises.

    Model, units, optimizer, penalty, statistics, protection, other followers, policies, the
    history and torch's random numbers are then as before, and the call can be repeated.
    """

    @functools.wraps(call)
    def alone(manager: M, /, *args: P.args, **options: P.kwargs) -> R:
        with manager.structure.restored_on_error(), _all_or_nothing(manager):
            return call(manager, *args, **options)

    return alone


@contextmanager
def _all_or_nothing(manager: "Managed") -> Iterator[None]:
    parts = (*manager.followers, *manager.changing_parts)
    with restored_on_error(*parts), ExitStack() as histories:
        for tracker in manager.trackers:
            histories.enter_context(tracker.transaction())
        yield
