"""`growmas keys`; it never imports torch."""

import json
import sys
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from growmas.cli.output import Output
from growmas.config import Experiment
from growmas.config.keys import Key, all_keys
from growmas.data.names import did_you_mean
from growmas.errors import ConfigError
from growmas.suggestion import closest
from growmas.terminal.breaking import BreakingName
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import Fitting, plain_table, with_notes

_ROOM = 110  # columns below which the table is hard to read


def list_keys(prefix: str, output: Output) -> None:
    """Print the keys that begin with a prefix.

    Raises:
        ConfigError: There are none.
    """
    found = all_keys(prefix)
    if not found:
        raise ConfigError(f'no key begins with "{prefix}"; {_hint(prefix)}')
    output.show(
        lambda ascii: _view(found, ascii=ascii),
        lambda: [asdict(key) for key in found],
        title="growmas keys",
    )


def print_schema() -> None:
    """Print a JSON Schema of configs."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    sys.stdout.write(json.dumps({**schema, **Experiment.model_json_schema()}, indent=1) + "\n")


def _hint(prefix: str) -> str:
    """Return the keys that contain what was given, a similar one, or the first parts of all."""
    known = list(dict.fromkeys(key.path for key in all_keys()))
    inside = [path for path in known if prefix.strip(".") and prefix.strip(".") in path]
    if inside:
        shown = ", ".join(inside[:8])
        return f"keys that contain it: {shown}" + (", …" if len(inside) > 8 else "")
    near = closest(prefix, known)
    return did_you_mean(prefix, known if near else dict.fromkeys(p.split(".")[0] for p in known))


def _view(keys: tuple[Key, ...], *, ascii: bool) -> RenderableType:
    table = plain_table(symbols(ascii=ascii))
    for heading in ("key", "of kind", "type", "default", "expected"):
        table.add_column(heading)
    paragraphs: list[RenderableType] = []
    for key in keys:
        limits = f"{key.type}, {key.range}" if key.range else key.type
        limits = limits.replace("≥", ">=").replace("≤", "<=") if ascii else limits
        meaning = key.meaning.replace("…", "...").replace("−", "-") if ascii else key.meaning
        row = (key.path, key.kind, limits, key.default, meaning)
        table.add_row(*map(BreakingName, row))
        paragraphs += _paragraph(*row)
    return with_notes(
        Fitting(table, Group(*paragraphs), room=_ROOM),
        ["growmas run CONFIG key=value sets one; --schema prints a JSON Schema for editors."],
    )


def _paragraph(
    path: str, kind: str, limits: str, default: str, meaning: str
) -> tuple[RenderableType, ...]:
    """Return a key in lines below each other, for terminals in which no table has room."""
    preset = default if default == "required" else f"default {default}"
    lines = [Text(f"{limits}; {preset}"), Text(meaning)]
    lines += [Text(f"of kind {kind}", "dim")] if kind else []
    return BreakingName(path), *(Padding(line, (0, 0, 0, 2)) for line in lines)
