"""The commands that only read runs; none of them imports torch."""

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from growmas.cli.output import Output
from growmas.history import TopologyHistory
from growmas.runs import (
    find_history,
    find_run,
    list_runs,
    read_trace,
)
from growmas.runs.listing import select
from growmas.terminal import shifts
from growmas.terminal.runs import render_runs


def open_history(name: str, root: Path) -> TopologyHistory:
    """Open the history of a run, given by its directory, its name below `root`, or the file.

    Raises:
        RunError: The run does not exist (names the nearest), or has no history.
        HistoryError: The file is not a history that this growmas reads.
    """
    return TopologyHistory(find_history(name, root))


def show_shifts(name: str, root: Path, output: Output) -> None:
    """Print the loss of a task-free run with its shifts."""
    trace = read_trace(find_run(name, root))
    output.show(
        lambda ascii: shifts.render_shifts(trace, ascii=ascii),
        lambda: shifts.as_data(trace),
        title=f"growmas shifts {name}",
    )


def list_folder(folder: Path, output: Output, *, sort: str, words: Sequence[str]) -> None:
    """Print the runs below a folder.

    Raises:
        RunError: The folder or the key to sort by does not exist.
    """
    runs = list_runs(folder)
    found = select(runs, sort=sort, words=words)
    nothing = (
        f"none of the {len(runs)} runs below {folder} mentions {' and '.join(words)}"
        if runs
        else f"there are no runs below {folder}; growmas run CONFIG makes runs/NAME"
    )
    output.show(
        lambda ascii: render_runs(found, ascii=ascii) if found else Text(nothing),
        lambda: [entry.as_data() for entry in found],
        title=f"growmas ls {folder}",
    )
