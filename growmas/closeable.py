"""Base class for objects with `close()`."""

from types import TracebackType
from typing import Self


class Closeable:
    """A context manager that calls `close` at its end."""

    def close(self) -> None:
        """Release files and hooks."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
