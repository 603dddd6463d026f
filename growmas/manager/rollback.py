"""Rollback of what planning changed in the objects it used."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def rolled_back(*holders: object, always: bool) -> Iterator[None]:
    """Give objects their earlier attributes back: always, or only after an error.

    This works for objects that bind new values to their attributes and change none in place, as
    `MAS.consolidate` and `ActivationStatistics.update` do.

    Args:
        holders: The objects; None is skipped.
        always: False keeps the changes unless there is an error.
    """
    kept = [(holder, dict(vars(holder))) for holder in holders if holder is not None]
    restore = True
    try:
        yield
        restore = always
    finally:
        for holder, attributes in kept if restore else ():
            vars(holder).clear()
            vars(holder).update(attributes)
