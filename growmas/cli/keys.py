"""`growmas keys`; it never imports torch."""

import json
import sys
from dataclasses import asdict

from rich.console import RenderableType
from rich.markup import escape

from growmas.cli.output import Output
from growmas.config import Experiment
from growmas.config.keys import Key, all_keys
from growmas.data.names import did_you_mean
from growmas.errors import ConfigError
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import plain_table, with_notes


def list_keys(prefix: str, output: Output) -> None:
    """Print the keys that begin with a prefix.

    Raises:
        ConfigError: There are none.
    """
    found = all_keys(prefix)
    if not found:
        known = dict.fromkeys(key.path for key in all_keys())
        raise ConfigError(f'no key begins with "{prefix}"; {did_you_mean(prefix, known)}')
    output.show(
        lambda ascii: _table(found, ascii=ascii),
        lambda: [asdict(key) for key in found],
        title="growmas keys",
    )


def print_schema() -> None:
    """Print a JSON Schema of configs."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    sys.stdout.write(json.dumps({**schema, **Experiment.model_json_schema()}, indent=1) + "\n")


def _table(keys: tuple[Key, ...], *, ascii: bool) -> RenderableType:
    table = plain_table(symbols(ascii=ascii))
    table.add_column("key", overflow="fold")
    for heading in ("of kind", "type", "default", "expected"):
        table.add_column(heading, overflow="fold")
    for key in keys:
        limits = f"{key.type}, {key.range}" if key.range else key.type
        limits = limits.replace("≥", ">=").replace("≤", "<=") if ascii else limits
        meaning = key.meaning.replace("…", "...").replace("−", "-") if ascii else key.meaning
        table.add_row(key.path, key.kind, *map(escape, (limits, key.default, meaning)))
    return with_notes(
        table, ["growmas run CONFIG key=value sets one; --schema prints a JSON Schema for editors."]
    )
