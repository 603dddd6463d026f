"""Commands that read runs and histories, and check the installation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from growmas.cli.app import RUNS, Group, Run, Task, app
from growmas.cli.examples import examples
from growmas.cli.printed import printed

if TYPE_CHECKING:
    from growmas.cli.output import Output


@app.command(no_args_is_help=True, epilog=examples("show"))
@printed
def show(run: Run, group: Group = None, *, output: "Output") -> None:
    """Show units per layer and task, with accuracy and parameters."""
    from growmas.cli import viewing

    viewing.show(run, RUNS, output, group=group)


@app.command(no_args_is_help=True, epilog=examples("log"))
@printed
def log(
    run: Run,
    number: Annotated[int, typer.Option("-n", min=0, help="How many; 0 for all.")] = 20,
    group: Group = None,
    task: Task = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The oldest first.")] = False,
    *,
    output: "Output",
) -> None:
    """Show every edit of a run, and why it was made."""
    from growmas.cli import viewing

    viewing.log(run, RUNS, output, group=group, task=task, number=number, reverse=reverse)


@app.command(no_args_is_help=True, epilog=examples("diff"))
@printed
def diff(
    run: Run,
    a: Annotated[str, typer.Argument(help="A task of it: its name or number; or another run.")],
    b: Annotated[str | None, typer.Argument(help="A second task of it.")] = None,
    *,
    output: "Output",
) -> None:
    """Compare two tasks of a run, or two runs."""
    from growmas.cli import viewing

    viewing.diff(run, a, b, RUNS, output)


@app.command(no_args_is_help=True, epilog=examples("unit"))
@printed
def unit(
    run: Run,
    unit: Annotated[str, typer.Argument(metavar="GROUP#ID", help="Such as 'fc1#17'.")],
    *,
    output: "Output",
) -> None:
    """Show the life of one unit."""
    from growmas.cli import viewing

    viewing.unit(run, unit, RUNS, output)


@app.command(no_args_is_help=True, epilog=examples("lifelines"))
@printed
def lifelines(
    run: Run,
    group: Group = None,
    every: Annotated[bool, typer.Option("--all", help="One line for each unit.")] = False,
    *,
    output: "Output",
) -> None:
    """Draw a line per unit from its birth to its death."""
    from growmas.cli import viewing

    viewing.lifelines(run, RUNS, output, group=group, every=every)


@app.command(no_args_is_help=True, epilog=examples("survival"))
@printed
def survival(run: Run, group: Group = None, *, output: "Output") -> None:
    """Show how many of the units born in a task are alive."""
    from growmas.cli import viewing

    viewing.survival(run, RUNS, output, group=group)


@app.command(no_args_is_help=True, epilog=examples("graph"))
@printed
def graph(
    run: Run,
    task: Annotated[str | None, typer.Option(help="As of this task: its name or number.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Only this group, and the layers next to it.")
    ] = None,
    *,
    output: "Output",
) -> None:
    """Draw the network: layers, widths, and the flow of data."""
    from growmas.cli import viewing

    viewing.graph(run, RUNS, output, task=task, group=group)


@app.command(no_args_is_help=True, epilog=examples("importance"))
@printed
def importance(run: Run, group: Group = None, *, output: "Output") -> None:
    """Show the distribution of importance, and free units."""
    from growmas.cli import viewing

    viewing.importance(run, RUNS, output, group=group)


@app.command(no_args_is_help=True, epilog=examples("shifts"))
@printed
def shifts(run: Run, *, output: "Output") -> None:
    """Show the loss of a task-free run, with its shifts and widths."""
    from growmas.cli import reading

    reading.show_shifts(run, RUNS, output)


@app.command(no_args_is_help=True, epilog=examples("curves"))
@printed
def curves(run: Run, *, output: "Output") -> None:
    """Show loss, penalty and learning rate of every epoch."""
    from growmas.cli.curves import show_curves

    show_curves(run, RUNS, output)


@app.command(no_args_is_help=True, epilog=examples("compare"))
@printed
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Run directories, names below runs/, or sweeps.")
    ],
    *,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What to test: accuracy, transfer, forgetting, numbers, parameters, cpu_seconds "
            "or seconds."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Setting that the others are compared with; by default the best."),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="table, markdown, latex, csv or json.")
    ] = "table",
    output: "Output",
) -> None:
    """Compare runs and sweeps, over seeds with intervals and a test."""
    from growmas.cli import comparing

    comparing.compare_runs(runs, RUNS, output, format=format, metric=metric, baseline=baseline)


@app.command(no_args_is_help=True, epilog=examples("export"))
def export(
    run: Run,
    graph: Annotated[str | None, typer.Option(help="architecture or lineage.")] = None,
    network: Annotated[
        bool,
        typer.Option("--network", help="The network itself, checked, for use without growmas."),
    ] = False,
    table: Annotated[
        str | None,
        typer.Option(help="units, importance, metrics, events, layers or sizes."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="json, graphml, dot or mermaid for a graph; csv or parquet for a table; pt2, "
            "onnx or safetensors for a network; "
            "by default what the name of the file ends in, else json or csv.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="The architecture or network as of this task: its name or number."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="The lineage of this group alone.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; printed by default.")
    ] = None,
) -> None:
    """Write the network, a graph or a table for other tools."""
    if network:
        from growmas.cli.exporting import refuse
        from growmas.cli.network import export as export_network

        refuse("--network", {"--graph": graph, "--table": table, "--group": group})
        export_network(run, RUNS, format=format, task=task, out=out)
        return
    from growmas.cli import exporting

    exporting.export(
        run, RUNS, graph=graph, table=table, format=format, task=task, group=group, out=out
    )


@app.command("ls", epilog=examples("ls"))
@printed
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where to look for runs.")] = RUNS,
    *,
    sort: Annotated[
        str, typer.Option(help="started, name, method, seed, accuracy or status; largest last.")
    ] = "started",
    filter: Annotated[
        str,
        typer.Option(help="Words that have to occur in the run's name, method, stream or status."),
    ] = "",
    output: "Output",
) -> None:
    """List the runs below a folder."""
    from growmas.cli import reading

    reading.list_folder(folder, output, sort=sort, words=filter.split())


@app.command(no_args_is_help=True, epilog=examples("report"))
def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="Run directories, names below runs/, history files, or sweeps."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; NAME-report.html by default.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Write each figure as SVG to this folder instead.")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="With --figures: as PNG too.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Write one HTML page with figures, or figures for a paper."""
    from growmas.cli.reporting import report as write

    write(runs, RUNS, out=out, figures=figures, png=png, overwrite=overwrite)


@app.command(epilog=examples("watch"))
def watch(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs, history files, sweeps or folders; all below runs/ by default."),
    ] = None,
) -> None:
    """Browse runs in the terminal, live or recorded."""
    from growmas.cli.watching import watch as browse

    browse(runs or [], RUNS)


@app.command(epilog=examples("doctor"))
def doctor(
    run: Annotated[
        str | None, typer.Argument(help="Check this run directory instead of the installation.")
    ] = None,
) -> None:
    """Check the installation, or a run, and say how to repair it."""
    from growmas.cli.doctor import examine, examine_run

    raise typer.Exit(examine() if run is None else examine_run(run, RUNS))
