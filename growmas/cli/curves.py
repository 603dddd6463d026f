"""`growmas curves`; it never imports torch."""

from dataclasses import asdict
from pathlib import Path

from growmas.cli.output import Output
from growmas.errors import RunError
from growmas.runs import find_history, find_run
from growmas.runs.curves import read_curves
from growmas.terminal.curves import render_curves


def show_curves(run: str, root: Path, output: Output) -> None:
    """Print the loss and the other numbers of every epoch.

    Raises:
        RunError: The run does not exist, or has no curves.
    """
    found = read_curves(_path(run, root))
    output.show(
        lambda ascii: render_curves(found, ascii=ascii),
        lambda: [asdict(each) for each in found],
        title=f"growmas curves {run}",
    )


def _path(run: str, root: Path) -> Path:
    try:
        return find_run(run, root)
    except RunError:
        return find_history(run, root)
