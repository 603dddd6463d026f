"""`growmas watch`: finds the runs, and opens the browser."""

import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from growmas.cli.reading import open_history
from growmas.errors import GrowmasError, GrowmasWarning, HistoryError, RunError
from growmas.runs.finding import HISTORY

_PATIENCE, _PAUSE = 1.5, 0.25  # seconds


def watch(names: Sequence[str], root: Path) -> None:
    """Browse runs: those named, or all below `root`, the latest first.

    Raises:
        RunError: Textual is not installed, or a run does not exist, or there are none.
        HistoryError: A file is not a history.
    """
    if find_spec("textual") is None:
        raise RunError("growmas watch needs Textual: pip install 'growmas[tui]'")
    if not _in_a_terminal():
        raise RunError("growmas watch needs a terminal; growmas show and growmas log print")
    paths = [_path(name, root) for name in names] or _all_below(root)
    from growmas.browser.app import Browser
    from growmas.browser.watched_run import WatchedRun

    titles = list(names) or [str(path.parent.relative_to(root)) for path in paths]
    Browser([WatchedRun(*pair) for pair in zip(titles, paths, strict=True)]).run()


def _in_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _path(name: str, root: Path) -> Path:
    """Return the history of a run; wait for one that is being created."""
    for _ in range(round(_PATIENCE / _PAUSE)):
        with suppress(HistoryError), open_history(name, root) as history:
            return history.path
        time.sleep(_PAUSE)
    with open_history(name, root) as history:
        return history.path


def _all_below(root: Path) -> list[Path]:
    paths = []
    for path in sorted(root.rglob(HISTORY), key=_age):
        try:
            with open_history(str(path), root):
                paths.append(path)
        except GrowmasError as error:
            warnings.warn(f"{path} is left out: {error}", GrowmasWarning, stacklevel=1)
    if not paths:
        raise RunError(
            f"there are no runs below {root}: name one, or make one with growmas run CONFIG"
        )
    return paths


def _age(path: Path) -> float:
    """Return a number that is smaller for files changed later."""
    try:
        return -path.stat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0
