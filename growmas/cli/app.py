"""The application `growmas`, and the arguments that its commands share."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from growmas import __version__

app = typer.Typer(
    help="Networks that grow and prune themselves while they learn one thing after another.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RUNS = Path("runs")

Config = Annotated[
    Path, typer.Argument(help="The experiment: a YAML file, or a name growmas configs lists.")
]
Run = Annotated[
    str, typer.Argument(help="A run directory, its name below runs/, or a history file.")
]
Group = Annotated[str | None, typer.Option(help="Only this group of units.")]
Task = Annotated[str | None, typer.Option(help="Only this task: its name, or its number from 0.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"growmas {__version__}\n")
        raise typer.Exit


@app.callback()
def growmas(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Define the options of all commands."""
