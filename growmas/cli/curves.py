"""`growmas curves`; it never imports torch."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from growmas.cli.output import Output
from growmas.errors import RunError
from growmas.runs import find_history, find_run
from growmas.runs.curves import CurvePoint, read_curves
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import plain_table

_ON_TRAINING = (
    "accuracy: of the task's own head, on training samples, as there are no validation samples "
    "(stream.validation)"
)


def show_curves(run: str, root: Path, output: Output) -> None:
    """Print loss, penalty, learning rate and accuracy of every epoch.

    Raises:
        RunError: The run does not exist, or has no curves.
    """
    found = read_curves(_path(run, root))
    output.show(
        lambda ascii: _table(found, ascii=ascii),
        lambda: [asdict(each) for each in found],
        title=f"growmas curves {run}",
    )


def _path(run: str, root: Path) -> Path:
    try:
        return find_run(run, root)
    except RunError:
        return find_history(run, root)


def _table(points: tuple[CurvePoint, ...], *, ascii: bool) -> RenderableType:
    free = all(each.epoch is None for each in points)
    table = plain_table(symbols(ascii=ascii))
    table.add_column("task")
    for heading in ("step" if free else "epoch", "loss", "penalty", "learning rate", "accuracy"):
        table.add_column(heading, justify="right")
    task = -1
    for each in points:
        accuracy = each.training if each.validation is None else each.validation
        table.add_row(
            escape(each.name) if each.task != task else "",
            str(each.step if each.epoch is None else each.epoch),
            _shown(each.loss, ".4f"),
            _shown(each.penalty, ".3g"),
            _shown(each.learning_rate, ".3g"),
            _shown(accuracy, ".3f"),
        )
        task = each.task
    on_training = any(each.validation is None and each.training is not None for each in points)
    return Group(table, Text(f"\n{_ON_TRAINING}")) if on_training else table


def _shown(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)
