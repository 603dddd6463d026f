"""A table of the runs below a directory, as `growmas ls` shows it."""

import time
from collections.abc import Sequence
from os.path import commonpath
from pathlib import PurePath

from rich.console import RenderableType
from rich.text import Text

from growmas.runs import RunEntry
from growmas.terminal.breaking import BreakingName
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import Fitting, plain_table, with_notes

_ROOM = 72  # columns for all numbers
_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def render_runs(
    entries: Sequence[RunEntry], *, ascii: bool = False, now: float | None = None
) -> RenderableType:
    """Draw a table of runs for a rich console; one that cannot be read shows why.

    Args:
        entries: The runs, in the order in which they are to be listed.
        ascii: Use ASCII characters only (names are printed as they are).
        now: Seconds since the epoch that ages are counted from; by default the present.
    """
    signs = symbols(ascii=ascii)
    now = time.time() if now is None else now
    folder = _common_folder([entry.directory for entry in entries])
    names = [
        entry.directory.removeprefix(f"{folder}/") if folder else entry.directory
        for entry in entries
    ]
    notes = [f"in {folder}"] if folder else []
    wide, narrow = plain_table(signs), plain_table(signs)
    for table, headings in ((wide, ("run", "method", "stream")), (narrow, ("run",))):
        for heading in headings:
            table.add_column(heading, overflow="fold")
        numbers = ("seed", "ACC %", "tasks", "age") if table is wide else ("ACC %",)
        for heading in numbers:
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("status", no_wrap=True)
    for name, entry in zip(names, entries, strict=True):
        shown, result = BreakingName(name), entry.result
        if result is None:
            wide.add_row(shown, *[Text(signs.nothing)] * 6, Text("unreadable"))
            narrow.add_row(shown, Text(signs.nothing), Text("unreadable"))
            notes.append(entry.problem)
            continue
        accuracy, status = signs.percent(result.average_accuracy), entry.status or result.status
        wide.add_row(
            shown,
            BreakingName(result.method),
            BreakingName(f"{result.stream} {result.scenario}"),
            str(result.seed),
            accuracy,
            f"{result.learnt}/{len(result.tasks)}",
            signs.nothing if result.started is None else age(now - result.started),
            Text(status),
        )
        narrow.add_row(shown, accuracy, Text(status))
        if entry.reason:
            notes.append(f"{name}: {entry.reason}")
    drawn = Fitting(wide, narrow, room=_ROOM)
    return with_notes(drawn, notes) if notes else drawn


def age(seconds: float) -> str:
    """Return a time span in its largest unit.

    >>> age(59.9), age(7300), age(3 * 86400), age(-5)
    ('59 s', '2 h', '3 d', '0 s')
    """
    seconds = max(0.0, seconds)
    size, unit = next((each for each in _AGES if seconds >= each[0]), _AGES[-1])
    return f"{int(seconds // size)} {unit}"


def _common_folder(directories: Sequence[str]) -> str:
    """Return the folder that all runs are in; "" if that is none, or the current one."""
    parents = [str(PurePath(each).parent) for each in directories]
    if len({PurePath(each).is_absolute() for each in parents}) != 1:
        return ""
    folder = commonpath(parents)
    return "" if folder in (".", "/") else folder
