"""The views of a structure that are held at the moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from growmas.errors import SurgeryError


class Views:
    """Views nest; the network is then as of the earliest of them."""

    def __init__(self) -> None:
        """None is held."""
        self._tasks: list[int] = []
        self._thread: int | None = None

    def __bool__(self) -> bool:
        """Whether any is held."""
        return bool(self._tasks)

    @property
    def earliest(self) -> int:
        """Index of the earliest task of which a view is held."""
        return min(self._tasks)

    @contextmanager
    def held(self, task: int) -> Iterator[None]:
        """Hold a view of a task while the context lasts.

        Raises:
            SurgeryError: Another thread holds one.
        """
        me = threading.get_ident()
        if self._tasks and self._thread != me:
            raise SurgeryError(
                "another thread holds a view of this model, which changes it for the duration: "
                "run the model inside that view, or give each thread a network of its own with "
                "structure.extract(task)"
            )
        self._thread = me
        self._tasks.append(task)
        try:
            yield
        finally:
            self._tasks.remove(task)

    def check_none(self) -> None:
        """Refuse what cannot be done inside a view.

        Raises:
            SurgeryError: A view is held.
        """
        if self._tasks:
            raise SurgeryError("this cannot be done inside a view: leave it first")
