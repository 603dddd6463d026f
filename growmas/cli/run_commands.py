"""Commands that train and prune networks, and that list what a config can say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from growmas.cli.app import RUNS, Config, app
from growmas.cli.examples import examples
from growmas.cli.printed import printed
from growmas.start_up import start_up

if TYPE_CHECKING:
    from growmas.cli.output import Output


@app.command(no_args_is_help=True, epilog=examples("run"))
def run(
    config: Config,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to it, such as training.epochs=2.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory; runs/NAME by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a run that exists.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue a run that was stopped.")] = False,
    imports: Annotated[
        list[Path] | None,
        typer.Option("--import", help="A folder of modules that the config names as targets."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and show what would run.")
    ] = False,
) -> None:
    """Run an experiment and write its run directory.

    growmas keys lists every key that a config may hold.
    """
    if dry_run:
        from growmas.cli.rehearsing import rehearse

        rehearse(config, overrides or [], imports=imports or [])
        return
    with start_up():
        import torch._dynamo  # noqa: F401 (the first optimizer of a process imports it)

        from growmas.cli.running import run_config

    run_config(
        config,
        overrides or [],
        out=out,
        root=RUNS,
        overwrite=overwrite,
        resume=resume,
        imports=imports or [],
    )


@app.command(no_args_is_help=True, epilog=examples("sweep"))
@printed
def sweep(
    config: Config,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Values for keys of it, such as seed=1..5 method.strength=0.1,1."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="How many runs at once; 1 on this machine."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the runs; runs/NAME-sweep by default.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Run one of N parts, such as 1/4 for the first of four."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Where to run: local, ray or slurm; sweep.engine of the config."),
    ] = None,
    engine_options: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-option", "-E", metavar="KEY=VALUE", help="One of growmas keys sweep.engine."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and list what would run.")
    ] = False,
    *,
    output: "Output",
) -> None:
    """Run every combination of values, or search for the best."""
    from growmas.cli.sweeping import sweep_config

    code = sweep_config(
        config,
        overrides or [],
        RUNS,
        output,
        jobs=jobs,
        out=out,
        shard=shard,
        engine=engine,
        engine_options=engine_options or [],
        dry_run=dry_run,
    )
    raise typer.Exit(code)


@app.command(no_args_is_help=True, epilog=examples("prune"))
@printed
def prune(
    model: Annotated[
        str,
        typer.Argument(
            help="The network: module:name, timm:name, transformers:name, a config, or a run."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="A source, a file, a folder, or a mapping as in a config."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A safetensors file, or a torch state dict.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task of a run.")] = None,
    arg: Annotated[
        list[str] | None, typer.Option(help="An argument of it, such as width=32.")
    ] = None,
    flops: Annotated[
        float | None, typer.Option(help="The share of FLOPs to leave, or their number.")
    ] = None,
    parameters: Annotated[
        float | None, typer.Option(help="The share of parameters to leave, or their number.")
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="The share of units to remove.")] = None,
    distil: Annotated[int, typer.Option(min=0, help="Steps of distillation afterwards.")] = 0,
    images: Annotated[int, typer.Option(min=2, help="How many unlabelled inputs to use.")] = 1000,
    round_to: Annotated[int, typer.Option(min=1, help="Leave multiples of channels.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="A .safetensors, .pt2 or .onnx file to write."),
    ] = None,
    *,
    output: "Output",
) -> None:
    """Make a trained network smaller, without labels; measure it."""
    from growmas.cli.pruning import prune_model

    prune_model(
        model,
        output,
        data=data,
        weights=weights,
        arguments=arg or [],
        task=task,
        target={"flops": flops, "parameters": parameters, "ratio": ratio},
        steps=distil,
        images=images,
        round_to=round_to,
        out=out,
        root=RUNS,
    )


@app.command(epilog=examples("configs"))
@printed
def configs(
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
    *,
    output: "Output",
) -> None:
    """List the configs that come with growmas, or print one."""
    from growmas.cli import configs as bundled

    bundled.print_config(name, output) if name else bundled.list_configs(output)


@app.command(epilog=examples("keys"))
@printed
def keys(
    prefix: Annotated[
        str | None, typer.Argument(help="Only keys that begin so, such as stream.source.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print a JSON Schema for editors instead.")
    ] = False,
    *,
    output: "Output",
) -> None:
    """List every key of a config: type, range, default and meaning."""
    from growmas.cli.keys import list_keys, print_schema

    print_schema() if schema else list_keys(prefix or "", output)
