"""`growmas prune`: one trained network made smaller, and written to a file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from growmas.cli.output import Output
from growmas.errors import RunError
from growmas.experiment.prune_subject import prune_subject
from growmas.experiment.slimming import Measurement, check_out, settings, slim, write_slim
from growmas.runs.result import METRICS
from growmas.terminal.live_bar import LiveBar


def prune_model(
    model: str,
    output: Output,
    *,
    data: str | None,
    weights: Path | None,
    arguments: Sequence[str],
    task: str | None,
    target: dict[str, float | None],
    steps: int,
    images: int,
    round_to: int,
    out: Path | None,
    root: Path,
) -> None:
    """Prune a network and show it before and after.

    Raises:
        RunError: The options do not say what is to be left, or the file cannot be written.
    """
    given = {name: _amount(value) for name, value in target.items() if value is not None}
    if len(given) != 1:
        raise RunError("say how much to remove: one of --flops, --parameters and --ratio")
    if out is not None:
        check_out(out)
    subject = prune_subject(
        _run_or(model, root),
        data,
        arguments=settings(arguments),
        weights=weights,
        task=task,
        images=images,
    )
    with LiveBar(Console(stderr=True), "steps of distillation", total=steps) as bar:
        bar.move("choosing and repairing", 0)
        slimming = slim(
            subject,
            given,
            steps=steps,
            round_to=round_to,
            progress=lambda step, loss: bar.move(f"loss {loss:.3g}", step),
        )
    output.show(
        lambda ascii: _table(slimming.measured, ascii),
        lambda: [asdict(each) for each in slimming.measured],
        title=f"growmas prune {model}",
    )
    if out is not None:
        write_slim(slimming, subject, out)


def _amount(value: float) -> float:
    """Return a share as a float, and a number above 1 without a fraction as an int."""
    return int(value) if value > 1 and value.is_integer() else value


def _run_or(model: str, root: Path) -> str:
    """Return the directory of a run that is named below `root`, or what was given."""
    below = root / model
    return str(below) if (below / METRICS).is_file() and not Path(model).exists() else model


def _table(measured: Sequence[Measurement], ascii: bool) -> Table:
    table = Table(box=box.ASCII if ascii else box.SIMPLE_HEAD)
    table.add_column("network")
    for name in ("accuracy", "agreement", "FLOPs", "parameters", "latency"):
        table.add_column(name, justify="right")
    for each in measured:
        table.add_row(
            each.name,
            _percent(each.accuracy),
            _percent(each.agreement),
            "-" if each.flops is None else f"{each.flops:,}",
            f"{each.parameters:,}",
            f"{each.latency:.2f} ms",
        )
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
