"""The title of the run that is shown, and the line that says how far it is."""

import time

from rich.text import Text

from growmas.browser.run_list import SIGNS, fitted
from growmas.browser.watched_run import WatchedRun


def title(run: WatchedRun, room: int) -> str:
    """Return name and state in at most `room` characters; of a long name both ends are kept."""
    if not run.board.tasks and run.entry is None and run.status != "waiting":
        return fitted(run.name, room)
    state = " · live" if run.board.live or run.status == "running" else " · recorded"
    return fitted(run.name, max(4, room - len(state))) + state


def progress_line(run: WatchedRun) -> Text:
    """Return status, the task and epoch or step in progress, and the time left, in one line."""
    line = Text(no_wrap=True, overflow="ellipsis")
    if run.entry is None and run.status != "waiting":
        return line.append("a history without a result" if run.board.tasks else "", "dim")
    sign, style = SIGNS.get(run.status, ("○", "dim"))
    line.append(f"{sign} {run.status}", style)
    parts = []
    if run.progress is not None and run.status != "finished":
        parts.append(str(run.progress))
    elif run.accuracy is not None:
        parts.append(f"accuracy {100 * run.accuracy:.1f}% over {len(run.board.tasks)} tasks")
    ended = run.entry.reason or run.entry.problem if run.entry else ""
    parts.append(run.left(time.time()) or ended)
    for part in filter(None, parts):
        line.append(f"  {part}", "not bold")
    return line
