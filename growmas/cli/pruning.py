"""`growmas prune`: one trained network made smaller, and written to a file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from growmas.cli.output import Output
from growmas.errors import RunError
from growmas.experiment.slimming import (
    Measurement,
    load_model,
    load_samples,
    settings,
    slim,
    write_slim,
)


def prune_model(
    model: str,
    output: Output,
    *,
    data: str,
    weights: Path | None,
    arguments: Sequence[str],
    target: dict[str, float | None],
    steps: int,
    images: int,
    round_to: int,
    out: Path | None,
) -> None:
    """Prune a network and show it before and after.

    Raises:
        RunError: The options do not say what is to be left, or the file cannot be written.
    """
    given = {name: value for name, value in target.items() if value is not None}
    if len(given) != 1:
        raise RunError("say how much to remove: one of --flops, --parameters and --ratio")
    if out is not None and out.suffix not in (".safetensors", ".pt2"):
        raise RunError(f"-o {out}: expected a name that ends in .safetensors or .pt2")
    samples = load_samples(data, images)
    network = load_model(model, settings(list(arguments)), weights)
    slimming = slim(network, samples, given, steps=steps, round_to=round_to)
    output.show(
        lambda ascii: _table(slimming.measured, ascii),
        lambda: [asdict(each) for each in slimming.measured],
        title=f"growmas prune {model}",
    )
    if out is not None:
        write_slim(slimming, samples.test[:1], out)


def _table(measured: Sequence[Measurement], ascii: bool) -> Table:
    labelled = measured[0].accuracy is not None
    table = Table(box=box.ASCII if ascii else box.SIMPLE_HEAD)
    table.add_column("network")
    for name in ("accuracy", "agreement", "FLOPs", "parameters", "latency"):
        table.add_column(name, justify="right")
    for each in measured:
        table.add_row(
            each.name,
            f"{each.accuracy:.1%}" if labelled and each.accuracy is not None else "-",
            f"{each.agreement:.1%}",
            "-" if each.flops is None else f"{each.flops:,}",
            f"{each.parameters:,}",
            f"{each.latency:.2f} ms",
        )
    return table
