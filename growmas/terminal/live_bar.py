"""A progress bar in a terminal, with lines printed above it; elsewhere only the lines."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from growmas.closeable import Closeable
from growmas.visible import visible


class LiveBar(Closeable):
    """A bar that counts towards a total; use it as a context manager.

    Args:
        console: Console to print to. If it is not a terminal, only the lines are printed.
        things: Name of the things counted, such as "epochs".
        total: Number of things in all.
        completed: Number of things done before.
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
        """Show what is being done, and how many things are done."""
        self._progress.update(self._bar, description=visible(description), completed=completed)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(visible(line), highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._console.is_terminal:  # rich 14.2 prints an empty line elsewhere
            self._progress.stop()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self
