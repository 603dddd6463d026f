"""`growmas watch`: finds the runs, and opens the browser."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from growmas.cli.reading import open_history
from growmas.errors import HistoryError, RunError
from growmas.runs.finding import HISTORY, find_sweep

_PATIENCE, _PAUSE = 1.5, 0.25  # seconds


def watch(names: Sequence[str], root: Path) -> None:
    """Browse runs, and those that begin later below `root` or below a folder that is named.

    Args:
        names: Run directories, history files, sweeps, or folders; none for `root`.
        root: Folder of all runs.

    Raises:
        RunError: Textual is not installed, there is no terminal, or a run does not exist.
        HistoryError: A file is not a history.
    """
    if find_spec("textual") is None:
        raise RunError("growmas watch needs Textual: pip install 'growmas[tui]'")
    if not _in_a_terminal():
        raise RunError("growmas watch needs a terminal; growmas show and growmas log print")
    from growmas.browser.app import Browser
    from growmas.browser.found_runs import FoundRuns, Place

    folders = [_folder(name, root) for name in names] or [root]
    named = [
        Place(name, _path(name, root))
        for name, folder in zip(names, folders, strict=False)
        if folder is None
    ]
    searched = [folder for folder in folders if folder is not None]
    found = FoundRuns(named, searched, root)
    where = " and ".join(str(folder.resolve()) for folder in searched)
    Browser(find=found.look, where=where).run()


def _in_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _folder(name: str, root: Path) -> Path | None:
    """Return a sweep, or a folder that is not a run, to search for runs; None for a run."""
    sweep = find_sweep(name, root)
    if sweep is not None:
        return sweep
    for folder in (Path(name), root / name):
        if folder.is_dir():
            return None if (folder / HISTORY).exists() else folder
    return None


def _path(name: str, root: Path) -> Path:
    """Return the history of a run; wait for one that is being created."""
    for _ in range(round(_PATIENCE / _PAUSE)):
        with suppress(HistoryError), open_history(name, root) as history:
            return history.path
        time.sleep(_PAUSE)
    with open_history(name, root) as history:
        return history.path
