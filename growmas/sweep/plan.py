"""Plans of sweeps, checked completely before the first run begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from growmas.config import (
    EngineConfig,
    Experiment,
    LocalEngineConfig,
    config_digest,
    differences,
    load_config,
)
from growmas.errors import ConfigError, RunError
from growmas.paths import as_path
from growmas.runs import RunDirectory, read_result
from growmas.runs.directory import CONFIG, OWN_FILES
from growmas.sweep.engine import State
from growmas.sweep.grid import Axis, Grid, directory_names, read_grid
from growmas.sweep.settings import SweepSettings, without_sweep
from growmas.sweep.shard import Shard

_TOLD = 5  # directories that are in the way


@dataclass(frozen=True)
class PlannedRun:
    """Run of one combination of values.

    Its identity is its experiment with all defaults: a run of the same experiment that the folder
    holds already, under whatever name, is this run.

    Attributes:
        name: Of its directory, such as `strength=0.1,seed=1`.
        setting: Key -> value in YAML, as in overrides.
        experiment: To run.
        folder: The run directory.
        state: "new", or "again" or "resumed" for a stopped run; a "finished" one is left as it is.
    """

    name: str
    setting: Mapping[str, str]
    experiment: Experiment
    folder: Path
    state: State


@dataclass(frozen=True)
class Sweep:
    """Runs below one folder.

    Attributes:
        folder: With a directory for each run.
        runs: In the order in which they begin.
        shard: The part of them to run; None for all.
        engine: Where they are run.
    """

    folder: Path
    runs: tuple[PlannedRun, ...]
    shard: Shard | None = None
    engine: EngineConfig = field(default_factory=LocalEngineConfig)

    @property
    def mine(self) -> tuple[PlannedRun, ...]:
        """The runs of this shard."""
        return self.runs if self.shard is None else self.shard.of(self.runs)

    @property
    def waiting(self) -> tuple[PlannedRun, ...]:
        """The runs of this shard that are not finished."""
        return tuple(run for run in self.mine if run.state != "finished")


def plan_sweep(
    config: str | PathLike[str],
    overrides: Sequence[str],
    *,
    directory: str | PathLike[str] | None = None,
    root: str | PathLike[str] = "runs",
    shard: str | None = None,
    engine: str | None = None,
    engine_options: Sequence[str] = (),
) -> Sweep:
    """Check every combination of values, and the runs that exist already.

    Args:
        config: A YAML file, or the name of a bundled config.
        overrides: Each `key=value,value`: the values in YAML, with commas between them, or
            `1..5` for whole numbers one after the other. One that begins with `sweep.` is a
            setting of the sweep, with one value.
        directory: The folder of the sweep; `root`/NAME-sweep by default.
        root: Of runs.
        shard: The part to run, such as "1/4" for the first of four; None for all.
        engine: "local", "ray" or "slurm"; None for `sweep.engine` of the config.
        engine_options: Each `key=value` of `sweep.engine`, such as "cpus=2".

    Raises:
        ConfigError: With every mistake in the file and in any combination, a line each.
        RunError: The folder cannot be used, or finished runs in it had another config.
    """
    settings = SweepSettings.read(config, overrides, engine, engine_options)
    part = None if shard is None else Shard.read(shard)
    return plan_settings(config, settings, directory=directory, root=root, shard=part)


def plan_settings(
    config: str | PathLike[str],
    settings: SweepSettings,
    *,
    directory: str | PathLike[str] | None = None,
    root: str | PathLike[str] = "runs",
    shard: Shard | None = None,
) -> Sweep:
    """Check every combination of values, as `plan_sweep` does, with settings that were read.

    Raises:
        ConfigError: With every mistake in the file and in any combination, a line each.
        RunError: The folder cannot be used, or finished runs in it had another config.
    """
    if not settings.axes:
        raise ConfigError(
            "a sweep needs at least one key with its values, such as seed=1..5, or tune in its "
            "config"
        )
    grid = read_grid(settings.axes)
    names = directory_names(grid)
    experiments = _checked(config, grid, names, settings)
    folder = sweep_folder(directory, root, f"{experiments[0].name}-sweep")
    _check_folder(folder)
    chosen = experiments[0].sweep
    return Sweep(
        folder,
        tuple(_planned(folder, grid, names, [without_sweep(each) for each in experiments])),
        shard,
        LocalEngineConfig() if chosen is None else chosen.engine,
    )


def sweep_folder(
    directory: str | PathLike[str] | None, root: str | PathLike[str], name: str
) -> Path:
    """Return the folder that a caller named, or else the one of this name below `root`.

    Raises:
        RunError: What was given is not a path.
    """
    if directory is None:
        return as_path(root, RunError, "a folder of runs") / name
    return as_path(directory, RunError, "a folder for the sweep")


def _planned(
    folder: Path, grid: Grid, names: Sequence[str], experiments: Sequence[Experiment]
) -> list[PlannedRun]:
    """Return the planned runs.

    Raises:
        RunError: Something is in the place of some.
    """
    runs: list[PlannedRun] = []
    refused: list[str] = []
    known = _KnownRuns(folder, names)
    for own, setting, experiment in zip(names, grid.combinations(), experiments, strict=True):
        name = known.name(own, experiment)
        try:
            state = run_state(folder / name, experiment)
        except RunError as error:
            refused.append(str(error))
        else:
            runs.append(PlannedRun(name, setting, experiment, folder / name, state))
    if refused:
        more = [f"and more, {len(refused)} in all"] if len(refused) > _TOLD else []
        raise RunError("\n".join([*refused[:_TOLD], *more]))
    return runs


class _KnownRuns:
    """Runs that a folder holds, by their identity.

    Args:
        folder: Of the sweep.
        names: Of the runs that are planned.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = set(names)
        self._others: dict[str, str] | None = None

    def name(self, own: str, experiment: Experiment) -> str:
        """Return the name of the directory that holds a run, else the one it will have."""
        if self._digest(own) == (digest := config_digest(experiment)):
            return own
        if self._others is None:
            self._others = self._read_others()
        return self._others.get(digest, own)

    def _read_others(self) -> dict[str, str]:
        """Return identity -> name of each run whose name is not planned; finished ones win."""
        if not self._folder.is_dir():
            return {}
        others = sorted({path.parent.name for path in self._folder.glob(f"*/{CONFIG}")})
        found = {name: self._digest(name) for name in others if name not in self._names}
        return {
            digest: name
            for name, digest in sorted(found.items(), key=lambda each: self._finished(each[0]))
            if digest
        }

    def _finished(self, name: str) -> bool:
        try:
            return read_result(self._folder / name).finished
        except RunError:
            return False

    def _digest(self, name: str) -> str:
        """Return the identity of a run; "" if its config cannot be read."""
        path = self._folder / name / CONFIG
        try:
            return config_digest(load_config(path)) if path.is_file() else ""
        except ConfigError:
            return ""


def _checked(
    config: str | PathLike[str], grid: Grid, names: Sequence[str], settings: SweepSettings
) -> list[Experiment]:
    """Return the experiment of every combination.

    Raises:
        ConfigError: With all mistakes, each of them once.
    """
    experiments: list[Experiment] = []
    found: dict[str, _Mistake] = {}
    for name, setting in zip(names, grid.combinations(), strict=True):
        try:
            given = [f"{key}={value}" for key, value in setting.items()]
            experiments.append(load_config(config, [*settings.own, *given]))
        except ConfigError as error:
            for line in settings.as_given(str(error)).splitlines():
                mistake = _of_which_axis(line, grid, setting)
                found.setdefault(mistake.text, mistake).met(name, mistake)
    mistakes = [*grid.mistakes, *(mistake.told(len(names)) for mistake in found.values())]
    if mistakes := mistakes or _twins(names, experiments):
        raise ConfigError("\n".join(mistakes))
    return experiments


@dataclass
class _Mistake:
    """Line of `load_config`, and the runs it concerns."""

    text: str
    axis: Axis | None = None
    values: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)

    def met(self, name: str, once_more: "_Mistake") -> None:
        self.runs.append(name)
        self.values |= once_more.values

    def told(self, runs: int) -> str:
        """Return the line, with the runs it concerns where several keys cause it together."""
        alone = runs if self.axis is None else runs * len(self.values) // len(self.axis.values)
        if len(self.runs) == alone:
            return self.text
        return f"{self.text} (in {len(self.runs)} of {runs} runs, first in {self.runs[0]})"


def _of_which_axis(line: str, grid: Grid, setting: Mapping[str, str]) -> _Mistake:
    """Attribute a mistake in an override to the override as it was given."""
    for axis in grid.axes:
        value = setting[axis.key]
        start = f"override {axis.key}={value}:"
        if line.startswith(start):
            text = f"override {axis.override}:{line.removeprefix(start)}"
            return _Mistake(text, axis, {value})
    return _Mistake(line)


def _twins(names: Sequence[str], experiments: Sequence[Experiment]) -> list[str]:
    first: dict[str, str] = {}
    mistakes = []
    for name, experiment in zip(names, experiments, strict=True):
        other = first.setdefault(experiment.model_dump_json(), name)
        if other != name:
            mistakes.append(f"{other} and {name} are the same experiment: leave one out")
    return mistakes


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: name a folder for the sweep with --out")
    if (folder / "metrics.json").exists():
        raise RunError(f"{folder} is a run: name another folder for the sweep with --out")


def run_state(folder: Path, experiment: Experiment) -> State:
    """Return the state of a run.

    Raises:
        RunError: Something else is in its place.
    """
    if not folder.exists():
        return "new"
    if not folder.is_dir():
        raise RunError(f"{folder} is a file: move it, or name another folder with --out")
    begun = {path.name for path in folder.iterdir()} <= OWN_FILES
    if not begun and not RunDirectory(folder).is_run():
        raise RunError(f"{folder} is not a run: move it, or name another folder with --out")
    if not (folder / "metrics.json").exists():
        return "again"
    finished = read_result(folder).finished
    try:
        other = differences(load_config(folder / "config.yaml"), experiment)
    except ConfigError as error:
        if finished:
            raise RunError(
                f"{folder} is finished, but its config cannot be read: {error}"
            ) from error
        return "again"
    if finished and other:
        raise RunError(
            f"{folder} is finished, with another config: {'; '.join(other)}. Name another folder "
            "with --out, or remove this run"
        )
    if finished:
        return "finished"
    return "resumed" if not other and (folder / "checkpoint").exists() else "again"
