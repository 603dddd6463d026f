"""A bar that moves in a terminal, and lines that are printed above it anywhere."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from growmas.closeable import Closeable


class LiveBar(Closeable):
    """Counts towards a total; use it as a context manager.

    Args:
        console: Where to print. A console that is no terminal gets the lines alone.
        things: What is counted, such as "epochs".
        total: How many there will be.
        completed: How many were done before.
    """

    def __init__(self, console: Console, things: str, *, total: int, completed: int = 0) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn(things),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("starting", total=total, completed=completed)

    def move(self, description: str, completed: int) -> None:
        """Show what is at work, and how many are done."""
        self._progress.update(self._bar, description=description, completed=completed)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def __enter__(self) -> Self:
        self._progress.start()
        return self
