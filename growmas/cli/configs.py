"""`growmas configs`; it never imports torch."""

import json
import sys

from rich.console import Group, RenderableType
from rich.padding import Padding

from growmas.cli.output import Output
from growmas.config import BundledConfig, bundled_config, bundled_configs
from growmas.terminal.breaking import BreakingName
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import Fitting, plain_table, with_notes

_ROOM = 80  # columns below which the table is hard to read


def list_configs(output: Output) -> None:
    """Print the purpose of each bundled config, and its run time."""
    known = bundled_configs()
    output.show(
        lambda ascii: _view(known, ascii=ascii),
        lambda: [_as_data(config) for config in known],
        title="growmas configs",
    )


def print_config(name: str, output: Output) -> None:
    """Print the text of a bundled config.

    Raises:
        ConfigError: The name is unknown.
    """
    config = bundled_config(name)
    text = config.path.read_text(encoding="utf-8")
    if output.as_json:
        sys.stdout.write(json.dumps({**_as_data(config), "text": text}, indent=1) + "\n")
    else:
        sys.stdout.write(text)


def _view(known: tuple[BundledConfig, ...], *, ascii: bool) -> RenderableType:
    table = plain_table(symbols(ascii=ascii))
    table.add_column("config", no_wrap=True)
    for heading in ("shows", "run time"):
        table.add_column(heading)
    paragraphs: list[RenderableType] = []
    for config in known:
        shows, time = BreakingName(config.shows), BreakingName(config.run_time)
        table.add_row(config.name, shows, time)
        indented = (Padding(each, (0, 0, 0, 2)) for each in (shows, time))
        paragraphs += [BreakingName(config.name), *indented]
    return with_notes(
        Fitting(table, Group(*paragraphs), room=_ROOM),
        ["growmas run NAME runs one, growmas configs NAME > mine.yaml makes it yours."],
    )


def _as_data(config: BundledConfig) -> dict[str, str]:
    return {
        "name": config.name,
        "shows": config.shows,
        "run_time": config.run_time,
        "path": str(config.path),
    }
