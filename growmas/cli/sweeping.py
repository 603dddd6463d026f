"""`growmas sweep`; it never imports torch: the processes of its runs do."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from growmas.cli.output import Output
from growmas.sweep import Sweep, plan_sweep, run_sweep
from growmas.sweep.summary import as_data, summarise
from growmas.terminal.sweep import render_plan, render_sweep
from growmas.terminal.sweep_progress import SweepProgress


def sweep_config(
    config: Path,
    overrides: Sequence[str],
    root: Path,
    output: Output,
    *,
    jobs: int,
    out: Path | None,
    dry_run: bool,
) -> int:
    """Run a sweep, show its progress and print a table; return 1 if a run failed, else 0."""
    sweep = plan_sweep(config, overrides, directory=out, root=root)
    if dry_run:
        _show_plan(sweep, output)
        return 0
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    finished = len(sweep.runs) - len(sweep.waiting)
    try:
        with SweepProgress(console, runs=len(sweep.runs), finished=finished) as progress:
            runs = run_sweep(sweep, jobs=jobs, observer=progress)
    except KeyboardInterrupt:
        console.print("the same command continues where this one stopped")
        raise
    summary = summarise(runs)
    output.show(
        lambda ascii: render_sweep(summary, ascii=ascii),
        lambda: as_data(summary),
        title=f"growmas compare {sweep.folder}",
    )
    failed = [run for run in runs if run.message]
    for run in failed:
        console.print(f"failed: {run.name}: {run.message}", markup=False)
    if failed:
        console.print("the same command tries these again", markup=False)
    console.print(
        f"written to {sweep.folder}; see the table again with: growmas compare "
        f"{shlex.quote(str(sweep.folder))}",
        markup=False,
    )
    return int(bool(failed))


def _show_plan(sweep: Sweep, output: Output) -> None:
    runs = [(run.name, run.state) for run in sweep.runs]
    output.show(
        lambda ascii: render_plan(sweep.folder, runs, ascii=ascii),
        lambda: [
            {
                "name": run.name,
                "directory": str(run.folder),
                "setting": dict(run.setting),
                "state": run.state,
            }
            for run in sweep.runs
        ],
        title="growmas sweep --dry-run",
    )
