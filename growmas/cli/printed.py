"""The options of all commands that print a view."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def _options(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    ascii: Annotated[bool, typer.Option("--ascii", help="Use ASCII characters only.")] = False,
    width: Annotated[int | None, typer.Option(min=40, help="Columns to print to.")] = None,
    svg: Annotated[
        Path | None, typer.Option(help="Write a picture of it to this file too.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain/--no-explain", help="Say below how to read it.")
    ] = False,
) -> None:
    """Declare the options that make an `Output`, for typer."""


def printed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in place of its parameter `output`."""
    signature, shared = inspect.signature(command), inspect.signature(_options).parameters
    own = [each for name, each in signature.parameters.items() if name != "output"]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        from growmas.cli.output import Output  # not at the top: printing help does not need it

        output = Output(**{name: given.pop(name) for name in shared})
        command(**given, output=output)

    parameters = [*own, *shared.values()]
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options
