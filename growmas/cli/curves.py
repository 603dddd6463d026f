"""`growmas curves`; it never imports torch."""

from dataclasses import asdict
from pathlib import Path

from rich.console import RenderableType
from rich.markup import escape

from growmas.cli.output import Output
from growmas.runs import find_run
from growmas.runs.curves import EpochScalars, read_curves
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import plain_table


def show_curves(run: str, root: Path, output: Output) -> None:
    """Print loss, penalty, learning rate and validation accuracy of every epoch.

    Raises:
        RunError: The run does not exist, or has no curves.
    """
    found = read_curves(find_run(run, root))
    output.show(
        lambda ascii: _table(found, ascii=ascii),
        lambda: [asdict(each) for each in found],
        title=f"growmas curves {run}",
    )


def _table(scalars: tuple[EpochScalars, ...], *, ascii: bool) -> RenderableType:
    table = plain_table(symbols(ascii=ascii))
    table.add_column("task")
    for heading in ("epoch", "loss", "penalty", "learning rate", "validation"):
        table.add_column(heading, justify="right")
    for each in scalars:
        held = "" if each.validation is None else f"{each.validation:.3f}"
        numbers = (f"{each.loss:.4f}", f"{each.penalty:.3g}", f"{each.learning_rate:.3g}", held)
        table.add_row(escape(each.name) if each.epoch == 1 else "", str(each.epoch), *numbers)
    return table
