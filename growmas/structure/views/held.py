"""Held views: the views of a structure that are in use at the moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from growmas.errors import SurgeryError


class Views:
    """The views that are held; they nest, and the network is then as of the earliest of them."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int]] = []  # thread and task

    def __bool__(self) -> bool:
        """Return True if a view is held."""
        return bool(self._held)

    @property
    def earliest(self) -> int:
        """Index of the earliest task whose view is held."""
        owner = self._held[0][0]
        return min(task for thread, task in self._held if thread == owner)

    @contextmanager
    def held(self, task: int) -> Iterator[None]:
        """Hold a view of a task while the context lasts.

        Raises:
            SurgeryError: Another thread holds a view.
        """
        mine = (threading.get_ident(), task)
        self._held.append(mine)  # atomic, so that of two threads one comes first
        if self._held[0][0] != mine[0]:
            self._held.remove(mine)
            raise SurgeryError(
                "another thread holds a view of this model, and a view changes the model: "
                "run the model inside that view, or give each thread a network of its own with "
                "structure.extract(task)"
            )
        try:
            yield
        finally:
            self._held.remove(mine)

    def check_none(self) -> None:
        """Refuse an operation that is not possible inside a view.

        Raises:
            SurgeryError: A view is held.
        """
        if self._held:
            raise SurgeryError("this cannot be done inside a view: leave it first")
