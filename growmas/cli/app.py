"""The commands of `growmas`, and how their errors are shown."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from growmas.errors import GrowmasError

app = typer.Typer(
    help="Networks that grow and prune themselves while they learn one thing after another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RUNS = Path("runs")

Run = Annotated[str, typer.Argument(help="A run directory, or its name below runs/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Use ASCII characters only.")]
Width = Annotated[int | None, typer.Option(min=40, help="Columns to print to.")]


@app.command(no_args_is_help=True)
def run(
    config: Annotated[Path, typer.Argument(help="The experiment, a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to it, such as training.epochs=2.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory; runs/NAME by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a run that is there.")] = False,
    resume: Annotated[
        bool, typer.Option(help="Go on with a task-free run that was stopped.")
    ] = False,
) -> None:
    """Run an experiment and write its run directory."""
    from growmas.cli.running import run_config

    run_config(config, overrides or [], out=out, root=RUNS, overwrite=overwrite, resume=resume)


@app.command(no_args_is_help=True)
def show(run: Run, as_json: AsJson = False, ascii: Ascii = False, width: Width = None) -> None:
    """Show units per layer and task, accuracy per task, and parameters of a run."""
    from growmas.cli.reading import show_run

    show_run(run, root=RUNS, as_json=as_json, ascii=ascii, width=width)


@app.command(no_args_is_help=True)
def shifts(run: Run, as_json: AsJson = False, ascii: Ascii = False, width: Width = None) -> None:
    """Show the loss of a task-free run, its plateaus and peaks, widths, and detection scores."""
    from growmas.cli.reading import show_shifts

    show_shifts(run, root=RUNS, as_json=as_json, ascii=ascii, width=width)


@app.command(no_args_is_help=True)
def compare(
    runs: Annotated[list[str], typer.Argument(help="Run directories, or names below runs/.")],
    as_json: AsJson = False,
    ascii: Ascii = False,
    width: Width = None,
) -> None:
    """Compare runs: accuracy, transfer, forgetting, size and time."""
    from growmas.cli.reading import compare_runs

    compare_runs(runs, root=RUNS, as_json=as_json, ascii=ascii, width=width)


@app.command("ls")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where to look for runs.")] = RUNS,
    as_json: AsJson = False,
    ascii: Ascii = False,
    width: Width = None,
) -> None:
    """List the runs below a folder."""
    from growmas.cli.reading import list_folder

    list_folder(folder, as_json=as_json, ascii=ascii, width=width)


@app.command()
def doctor() -> None:
    """Check what growmas needs on this machine, and say how to mend what is missing."""
    from growmas.cli.doctor import examine

    raise typer.Exit(examine())


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, never a traceback."""
    warnings.showwarning = _show_warning
    try:
        app()
    except GrowmasError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted; what was reported as done is on disk", code=130)
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or 'writing the run'}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of growmas, or of a library, as one line."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"warning: {message}", markup=False)


def _fail(message: str, *, code: int = 2) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(
        f"error: {message}", markup=False, style="bold red" if console.is_terminal else ""
    )
    raise SystemExit(code)
