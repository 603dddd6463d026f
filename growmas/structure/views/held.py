"""Held views, and the lock that keeps two threads from changing a network at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from growmas.errors import SurgeryError


class ChangeLock:
    """Lock of everything that changes a network; a copy of a structure gets a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: object) -> "ChangeLock":
        return ChangeLock()

    def __reduce__(self) -> tuple[type["ChangeLock"], tuple[()]]:
        return ChangeLock, ()


class Views:
    """The views that are held; they nest, and the network is then as of the earliest of them."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int]] = []  # thread and task
        self.changing = ChangeLock()

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
        with self.changing:  # waits until an edit in another thread has ended
            free = not self._held or self._held[0][0] == mine[0]
            if free:
                self._held.append(mine)
        if not free:
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
