"""Progress of a sweep: a live bar in a terminal, and a line per run anywhere."""

from rich.console import Console

from growmas.sweep.summary import SweepRun
from growmas.terminal.live_bar import LiveBar


class SweepProgress(LiveBar):
    """Observer of a sweep that prints; use it as a context manager.

    Args:
        console: Where to print. A console that is not a terminal gets plain lines.
        runs: Number of runs, the finished ones included.
        finished: Number of runs that were finished before.
    """

    def __init__(self, console: Console, *, runs: int, finished: int) -> None:
        super().__init__(console, "runs", total=runs, completed=finished)
        self._runs, self._done = runs, finished
        self._working: list[str] = []

    def begun(self, name: str) -> None:
        """Show a run that has begun."""
        self._working.append(name)
        self._update()

    def ended(self, run: SweepRun) -> None:
        """Print a line for a run that is finished or failed."""
        self._done += 1
        self._working.remove(run.name)
        line = f"{self._done}/{self._runs}  {run.name}  {run.status}"
        if run.result and run.status == "finished":
            accuracy, forgotten = run.result.average_accuracy, run.result.forgetting
            line += f"  accuracy {accuracy:.3f}  forgetting {forgotten:.3f}"
            if run.result.validation:
                line += f"  validation {run.result.validation[-1]:.3f}"
            line += (
                f"  {run.result.parameters:,} parameters  {run.result.cpu_seconds:.1f} CPU seconds"
            )
        if run.message:
            line += f"  {run.message.splitlines()[0]}"
        self.say(line)
        self._update()

    def _update(self) -> None:
        shown = self._working[0] if self._working else ""
        more = f" and {len(self._working) - 1} more" if len(self._working) > 1 else ""
        self.move(shown + more, self._done)
