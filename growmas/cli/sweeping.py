"""`growmas sweep`; it never imports torch: the processes of its runs do."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from growmas.cli.output import Output
from growmas.cli.tuning import tune_config
from growmas.errors import ConfigError
from growmas.sweep import Sweep, plan_sweep, plan_tuning, run_sweep
from growmas.sweep.engines.opening import check_engine
from growmas.sweep.record import other_code, recorded_runs
from growmas.sweep.summary import SweepRun, as_data, summarise
from growmas.terminal.sweep import render_plan, render_sweep
from growmas.terminal.sweep_progress import SweepProgress
from growmas.visible import visible


def sweep_config(
    config: Path,
    overrides: Sequence[str],
    root: Path,
    output: Output,
    *,
    jobs: int | None,
    out: Path | None,
    shard: str | None,
    engine: str | None,
    engine_options: Sequence[str],
    dry_run: bool,
) -> int:
    """Run a sweep, show its progress and print a table; return 1 if a run failed, else 0."""
    tuning = plan_tuning(
        config,
        overrides,
        directory=out,
        root=root,
        engine=engine,
        engine_options=engine_options,
    )
    if tuning is not None:
        if shard is not None:
            raise ConfigError(
                "a search cannot be split into shards, as each trial learns from the others: leave "
                "--shard out; --jobs and --engine run trials side by side"
            )
        return tune_config(tuning, output, jobs=jobs, dry_run=dry_run)
    sweep = plan_sweep(
        config,
        overrides,
        directory=out,
        root=root,
        shard=shard,
        engine=engine,
        engine_options=engine_options,
    )
    check_engine(sweep.engine)
    if dry_run:
        _show_plan(sweep, output)
        return 0
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    runs = _run(sweep, jobs, console)
    summary = summarise(runs)
    output.show(
        lambda ascii: render_sweep(summary, ascii=ascii),
        lambda: as_data(summary),
        title=f"growmas compare {sweep.folder}",
    )
    failed = _tell(sweep, runs, console)
    return int(failed)


def _tell(sweep: Sweep, runs: Sequence[SweepRun], console: Console) -> bool:
    """Print what a table does not show; return True if a run failed."""
    mine = {run.name for run in sweep.mine}
    failed = [run for run in runs if run.message and run.name in mine]
    lines = [f"failed: {run.name}: {run.message}" for run in failed]
    if failed:
        lines.append("the same command tries these again")
    if sweep.shard:
        lines.append(f"shard {sweep.shard}: {len(mine)} of {len(runs)} runs")
    lines += [f"warning: {line}" for line in other_code(runs)]
    earlier = len({*recorded_runs(sweep.folder)} - {run.name for run in runs})
    if earlier:
        lines.append(f"runs of earlier commands in this folder: {earlier}, which compare shows too")
    lines.append(
        f"written to {sweep.folder}; see the table again with: growmas compare "
        f"{shlex.quote(str(sweep.folder))}"
    )
    for line in lines:
        console.print(visible(line), markup=False)
    return bool(failed)


def _run(sweep: Sweep, jobs: int | None, console: Console) -> tuple[SweepRun, ...]:
    finished = len(sweep.mine) - len(sweep.waiting)
    try:
        with SweepProgress(console, runs=len(sweep.mine), finished=finished) as progress:
            return run_sweep(sweep, jobs=jobs, observer=progress)
    except KeyboardInterrupt:
        console.print("the same command continues where this one stopped")
        raise


def _show_plan(sweep: Sweep, output: Output) -> None:
    runs = [(run.name, run.state) for run in sweep.mine]
    output.show(
        lambda ascii: render_plan(sweep.folder, runs, ascii=ascii),
        lambda: [
            {
                "name": run.name,
                "directory": str(run.folder),
                "setting": dict(run.setting),
                "state": run.state,
            }
            for run in sweep.mine
        ],
        title="growmas sweep --dry-run",
    )
