"""`growmas sweep` of a config with `tune`; it never imports torch."""

from rich.console import Console, Group
from rich.text import Text

from growmas.cli.output import Output
from growmas.sweep import run_tuning
from growmas.sweep.engines.opening import check_engine
from growmas.sweep.summary import as_data, summarise
from growmas.sweep.tuning import BEST, TRIALS, Trial, Tuned, Tuning
from growmas.terminal.sweep import render_sweep
from growmas.terminal.sweep_progress import SweepProgress
from growmas.terminal.tuning import render_trials


def tune_config(tuning: Tuning, output: Output, *, jobs: int | None, dry_run: bool) -> int:
    """Search, and report the best; return 1 if a run of the report failed, else 0."""
    sweep = tuning.experiment.sweep
    if sweep is not None:
        check_engine(sweep.engine)
    if dry_run:
        _show_plan(tuning, output)
        return 0
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    runs = tuning.tune.trials + len(tuning.tune.seeds)
    try:
        with SweepProgress(console, runs=runs, finished=0) as progress:
            tuned = run_tuning(tuning, jobs=jobs, observer=progress, noted=progress.say)
    except KeyboardInterrupt:
        console.print("the same command continues where this one stopped")
        raise
    summary = summarise(tuned.report)
    output.show(
        lambda ascii: Group(
            render_trials(tuned.trials, seed=tuning.tune.seed, ascii=ascii),
            Text(),
            render_sweep(summary, ascii=ascii),
        ),
        lambda: {**as_data(summary), **_tuned_data(tuned)},
        title=f"growmas sweep {tuning.config}",
    )
    failed = [run for run in tuned.report if run.message]
    for run in failed:
        console.print(f"failed: {run.name}: {run.message}", markup=False)
    console.print(
        f"written to {tuning.folder}: the report, {BEST} and {TRIALS}; see the report again with: "
        f"growmas compare {tuning.folder}",
        markup=False,
    )
    return int(bool(failed))


def _show_plan(tuning: Tuning, output: Output) -> None:
    tune = tuning.tune
    seeds = ", ".join(map(str, tune.seeds))
    text = (
        f"in {tuning.folder}: {tune.trials} trials of {', '.join(tune.keys)} on seed {tune.seed}, "
        f"then the best on seeds {seeds}; nothing was started"
    )
    output.show(
        lambda ascii: Text(text),
        lambda: {"directory": str(tuning.folder), **tune.model_dump(mode="json")},
        title="growmas sweep --dry-run",
    )


def _tuned_data(tuned: Tuned) -> dict[str, object]:
    def data(trial: Trial) -> dict[str, object]:
        return {
            "name": trial.run.name,
            "values": trial.values,
            "validation": trial.validation,
            "message": trial.run.message,
        }

    return {"trials": [data(trial) for trial in tuned.trials], "best": data(tuned.best)}
