"""How a sweep goes, as it goes: a live bar in a terminal, and a line per run anywhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from growmas.terminal.sweep import SweepRun


class SweepProgress:
    """Observes a sweep and prints; use it as a context manager.

    Args:
        console: Where to print. A console that is no terminal gets plain lines.
        runs: Number of runs, the finished ones included.
        finished: How many were finished before.
    """

    def __init__(self, console: Console, *, runs: int, finished: int) -> None:
        self._console = console
        self._runs, self._done = runs, finished
        self._working: list[str] = []
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("starting", total=runs, completed=finished)

    def begun(self, name: str) -> None:
        """A run has begun."""
        self._working.append(name)
        self._update()

    def ended(self, run: SweepRun) -> None:
        """A run is finished, or failed."""
        self._done += 1
        self._working.remove(run.name)
        line = f"{self._done}/{self._runs}  {run.name}  {run.status}"
        if run.result and run.status == "finished":
            accuracy, forgotten = run.result.average_accuracy, run.result.forgetting
            line += f"  accuracy {accuracy:.3f}  forgetting {forgotten:.3f}"
            line += f"  {run.result.parameters:,} parameters  {run.cpu_seconds:.1f} CPU seconds"
        if run.message:
            line += f"  {run.message.splitlines()[0]}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._update()

    def _update(self) -> None:
        shown = self._working[0] if self._working else ""
        more = f" and {len(self._working) - 1} more" if len(self._working) > 1 else ""
        self._progress.update(self._bar, description=shown + more, completed=self._done)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
