"""`growmas run --dry-run`: what a config would run; writes nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from growmas.config import Experiment, load_config
from growmas.config.formatting import KeyPath, dotted, show
from growmas.experiment.rehearsal import Rehearsal, rehearse as rehearse_run
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import plain_table

_UNITS = ("B", "kB", "MB", "GB", "TB")


def rehearse(config: Path, overrides: Sequence[str], *, imports: Sequence[Path] = ()) -> None:
    """Print every value of a config with its origin, the tasks, and the sizes."""
    experiment = load_config(config, overrides, imports=imports)
    found = rehearse_run(experiment)
    console = Console(highlight=False)
    plain = not console.encoding.startswith("utf")
    console.print(_values(experiment, ascii=plain))
    console.print()
    console.print(_tasks(found, ascii=plain))
    console.print()
    for line in _sizes(found):
        console.print(escape(line), soft_wrap=True)


def _values(experiment: Experiment, *, ascii: bool) -> Any:
    table = plain_table(symbols(ascii=ascii))
    for heading in ("key", "value", "from"):
        table.add_column(heading, overflow="fold")
    for path, value in _leaves(experiment.model_dump(mode="json"), ()):
        origin = experiment.origins.written(path) or "default"
        table.add_row(dotted(path), escape(show(value)), escape(origin))
    return table


def _tasks(found: Rehearsal, *, ascii: bool) -> Any:
    table = plain_table(symbols(ascii=ascii))
    for heading in ("task", "training", "validation", "test"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for name, *counts in found.tasks:
        table.add_row(escape(name), *(f"{count:,}" for count in counts))
    return table


def _sizes(found: Rehearsal) -> Iterator[str]:
    widths = "  ".join(f"{name} {width}" for name, width in found.widths.items())
    yield f"stream      {found.stream}, inputs {list(found.input_shape)}, hash {found.digest}"
    yield f"network     {widths or 'no units that could change'}, {found.parameters:,} parameters"
    yield f"at most     {found.largest:,} parameters after the growth that the config allows"
    yield f"memory      {_bytes(found.data_bytes)} of data, {_bytes(found.training_bytes)} to train"
    yield "nothing was written"


def _bytes(count: float) -> str:
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_UNITS[power]}"


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, (*path, key))
    else:
        yield path, value
