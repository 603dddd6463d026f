"""Tuning: trials judged on validation data of one seed, then the best of them on other seeds.

The trials are runs of a sweep below `trials`, the report is a sweep in the folder itself, and
`best.yaml` is the config of the best trial. No test data takes part in the choice.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from growmas.atomic_write import atomic_write
from growmas.config import (
    Experiment,
    LocalEngineConfig,
    TaskFreeConfig,
    TuneConfig,
    dump_config,
    load_config,
)
from growmas.errors import ConfigError, RunError
from growmas.sweep.end_points import end_points
from growmas.sweep.grid import split_values
from growmas.sweep.plan import Sweep, plan_settings, sweep_folder
from growmas.sweep.settings import SweepSettings, without_sweep
from growmas.sweep.summary import SEED, SweepRun
from growmas.sweep.work import Observer, SweepRunner, sweep_runner

TRIALS = "trials"
BEST = "best.yaml"


@dataclass(frozen=True)
class Tuning:
    """A search that was checked.

    Attributes:
        folder: With the report, and the trials below it.
        config: The file, or the name of a bundled config.
        settings: Of the sweep: overrides that hold in every run are its own.
        experiment: With these overrides.
        tune: What to search.
    """

    folder: Path
    config: str | PathLike[str]
    settings: SweepSettings
    experiment: Experiment
    tune: TuneConfig


@dataclass(frozen=True)
class Trial:
    """A run of a search.

    Attributes:
        values: Key -> value in YAML.
        run: Of the sweep below `trials`.
    """

    values: dict[str, str]
    run: SweepRun

    @property
    def validation(self) -> float | None:
        """Mean accuracy on the validation data of all tasks at the end; None if it failed."""
        result = self.run.result
        if self.run.message or result is None or not result.finished or not result.validation:
            return None
        return result.validation[-1]


@dataclass(frozen=True)
class Tuned:
    """A search that has ended.

    Attributes:
        trials: In their order; values that were chosen twice are there twice.
        best: Of them.
        report: The runs of the best values on other seeds.
    """

    trials: tuple[Trial, ...]
    best: Trial
    report: tuple[SweepRun, ...]


def plan_tuning(
    config: str | PathLike[str],
    overrides: Sequence[str] = (),
    *,
    directory: str | PathLike[str] | None = None,
    root: str | PathLike[str] = "runs",
    engine: str | None = None,
    engine_options: Sequence[str] = (),
) -> Tuning | None:
    """Check a search: its keys, and the ends of their ranges; None for a config without `tune`.

    Args:
        config: A YAML file, or the name of a bundled config.
        overrides: Each `key=value`, with one value; they hold in every run.
        directory: The folder; `root`/NAME-tuned by default.
        root: Of runs.
        engine: As for `plan_sweep`.
        engine_options: As for `plan_sweep`.

    Raises:
        ConfigError: With every mistake, a line each.
        RunError: Optuna is not installed.
    """
    settings = SweepSettings.read(config, overrides, engine, engine_options)
    if not settings.tunes(config):
        return None
    if mistakes := _several_values(settings.axes):
        raise ConfigError("\n".join(mistakes))
    fixed = replace(settings, axes=(), own=(*settings.own, *settings.axes))
    try:
        experiment = load_config(config, fixed.own)
    except ConfigError as error:
        raise ConfigError(fixed.as_given(str(error))) from error
    tune = experiment.tune
    if tune is None:
        return None
    if isinstance(experiment.stream, TaskFreeConfig):
        raise ConfigError(
            "tune: expected null, as stream.kind is task_free: it has no validation data to judge "
            "trials on"
        )
    folder = sweep_folder(directory, root, f"{experiment.name}-tuned")
    if mistakes := _mistakes(config, fixed, tune):
        raise ConfigError("\n".join(mistakes))
    if importlib.util.find_spec("optuna") is None:
        raise RunError("tune needs optuna, which is not installed: pip install 'growmas[optuna]'")
    return Tuning(folder, config, fixed, experiment, tune)


def run_tuning(
    tuning: Tuning,
    *,
    jobs: int | None = None,
    observer: Observer | None = None,
    noted: Callable[[str], None] | None = None,
) -> Tuned:
    """Run the trials, write the config of the best, and run it on the seeds of the report.

    Trials and runs that are finished are kept: the same search continues where it was stopped.

    Args:
        tuning: Of `plan_tuning`.
        jobs: Number of runs at once, as for `run_sweep`.
        observer: Is told of every run that is begun.
        noted: Is told the best trial in words.

    Raises:
        RunError: No trial was finished, or a sweep could not be run.
    """
    if not isinstance(tuning, Tuning):
        raise RunError(f"expected a Tuning, as plan_tuning returns, got {type(tuning).__name__}")
    tune, sweep = tuning.tune, tuning.experiment.sweep
    engine = LocalEngineConfig() if sweep is None else sweep.engine
    with sweep_runner(tuning.folder, engine, jobs=jobs, runs=tune.trials) as runner:
        trials = _search(tuning, runner, observer)
        finished = [trial for trial in trials if trial.validation is not None]
        if not finished:
            raise RunError(
                f"none of the {len(trials)} trials was finished; the first: {trials[0].run.message}"
            )
        best = max(finished, key=lambda trial: trial.validation or 0.0)  # the first of equals
        write_best(tuning, best, len(trials))
        if noted:
            values = ", ".join(f"{key}={value}" for key, value in best.values.items())
            noted(f"best of {len(trials)} trials: {values}, validation {best.validation:.3f}")
        seeds = "seed=" + ",".join(map(str, tune.seeds))
        report = runner.run(_sweep(tuning, best.values, [seeds], tuning.folder), observer)
    return Tuned(tuple(trials), best, report)


def _search(tuning: Tuning, runner: SweepRunner, observer: Observer | None) -> list[Trial]:
    from growmas.sweep.searcher import Searcher

    tune, searcher = tuning.tune, Searcher(tuning.tune)
    trials: list[Trial] = []
    while len(trials) < tune.trials:
        chosen = searcher.ask(min(tune.together, tune.trials - len(trials)))
        found = _tried(tuning, chosen, runner, observer)
        searcher.tell([trial.validation or 0.0 for trial in found])
        trials += found
    return trials


def write_best(tuning: Tuning, best: Trial, count: int) -> None:
    """Write the config of the best trial, without `tune`, for `growmas run` and `growmas sweep`."""
    overrides = [f"{key}={value}" for key, value in best.values.items()]
    experiment = load_config(tuning.config, [*tuning.settings.own, *overrides])
    values = ", ".join(overrides)
    text = (
        f"# {values}: the best of {count} trials on seed {tuning.tune.seed}, with a mean accuracy\n"
        f"# of {best.validation:.4f} on validation data.\n"
    )
    with atomic_write(tuning.folder / BEST) as fresh:
        fresh.write_text(text + dump_config(without_sweep(experiment)), encoding="utf-8")


def _tried(
    tuning: Tuning,
    chosen: Sequence[dict[str, str]],
    runner: SweepRunner,
    observer: Observer | None,
) -> list[Trial]:
    """Run some trials side by side; values that were tried before are not run again."""
    tune = tuning.tune
    own = [f"seed={tune.seed}"]
    if not getattr(tuning.experiment.stream, "validation", 0):
        own.append(f"stream.validation={tune.validation}")
    folder = tuning.folder / TRIALS
    planned = [_sweep(tuning, values, [], folder, own) for values in chosen]
    several = {sweep.runs[0].name: sweep.runs[0] for sweep in planned}
    together = replace(planned[0], runs=tuple(several.values()))
    runs = {run.name: run for run in runner.run(together, observer)}
    return [
        Trial(values, runs[sweep.runs[0].name])
        for values, sweep in zip(chosen, planned, strict=True)
    ]


def _sweep(
    tuning: Tuning,
    values: dict[str, str],
    axes: Sequence[str],
    folder: Path,
    own: Sequence[str] = (),
) -> Sweep:
    """Return the sweep of some values, which stand in the names of its runs."""
    given = [f"{key}={value}" for key, value in values.items()]
    settings = replace(tuning.settings, axes=(*given, *axes), own=(*tuning.settings.own, *own))
    return plan_settings(tuning.config, settings, directory=folder)


def _several_values(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that give several values, or the seed, as mistakes."""
    mistakes = []
    for override in overrides:
        key, _, text = override.partition("=")
        if key.strip() == SEED:
            mistakes.append(f"override {override}: give the seeds as tune.seeds")
        elif len(split_values(text)) > 1:
            mistakes.append(
                f"override {override}: expected one value, as a search compares values of tune.keys"
            )
    return mistakes


def _mistakes(config: str | PathLike[str], settings: SweepSettings, tune: TuneConfig) -> list[str]:
    """Return what is wrong with the values of each key: those of its list, or its ends."""
    found: dict[str, None] = {}
    for key, values in end_points(tune.keys).items():
        for value in values:
            override = f"{key}={value}"
            try:
                load_config(config, [*settings.own, override])
            except ConfigError as error:
                for line in str(error).splitlines():
                    found[line.replace(f"override {override}: ", f"tune.keys.{key}: ")] = None
    return list(found)
