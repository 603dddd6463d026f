"""Plans of sweeps, checked completely before the first run begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Literal

from growmas.config import Experiment, differences, load_config
from growmas.errors import ConfigError, RunError
from growmas.runs import RunDirectory, read_result
from growmas.runs.directory import OWN_FILES
from growmas.sweep.grid import Axis, Grid, directory_names, read_grid

State = Literal["new", "again", "resumed", "finished"]

_TOLD = 5  # directories that are in the way


@dataclass(frozen=True)
class PlannedRun:
    """Run of one combination of values.

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
    """

    folder: Path
    runs: tuple[PlannedRun, ...]

    @property
    def waiting(self) -> tuple[PlannedRun, ...]:
        """The runs that are not finished."""
        return tuple(run for run in self.runs if run.state != "finished")


def plan_sweep(
    config: str | PathLike[str],
    overrides: Sequence[str],
    *,
    directory: str | PathLike[str] | None = None,
    root: str | PathLike[str] = "runs",
) -> Sweep:
    """Check every combination of values, and the runs that exist already.

    Args:
        config: A YAML file, or the name of a bundled config.
        overrides: Each `key=value,value`: the values in YAML, with commas between them, or
            `1..5` for whole numbers one after the other.
        directory: The folder of the sweep; `root`/NAME-sweep by default.
        root: Of runs.

    Raises:
        ConfigError: With every mistake in the file and in any combination, a line each.
        RunError: The folder cannot be used, or finished runs in it had another config.
    """
    if not overrides:
        raise ConfigError("a sweep needs at least one key with its values, such as seed=1..5")
    grid = read_grid(overrides)
    names = directory_names(grid)
    experiments = _checked(config, grid, names)
    folder = Path(root) / f"{experiments[0].name}-sweep" if directory is None else Path(directory)
    _check_folder(folder)
    return Sweep(folder, tuple(_planned(folder, grid, names, experiments)))


def _planned(
    folder: Path, grid: Grid, names: Sequence[str], experiments: Sequence[Experiment]
) -> list[PlannedRun]:
    """Return the planned runs.

    Raises:
        RunError: Something is in the place of some.
    """
    runs: list[PlannedRun] = []
    refused: list[str] = []
    for name, setting, experiment in zip(names, grid.combinations(), experiments, strict=True):
        try:
            state = _state(folder / name, experiment)
        except RunError as error:
            refused.append(str(error))
        else:
            runs.append(PlannedRun(name, setting, experiment, folder / name, state))
    if refused:
        more = [f"and more, {len(refused)} in all"] if len(refused) > _TOLD else []
        raise RunError("\n".join([*refused[:_TOLD], *more]))
    return runs


def _checked(config: str | PathLike[str], grid: Grid, names: Sequence[str]) -> list[Experiment]:
    """Return the experiment of every combination.

    Raises:
        ConfigError: With all mistakes, each of them once.
    """
    experiments: list[Experiment] = []
    found: dict[str, _Mistake] = {}
    for name, setting in zip(names, grid.combinations(), strict=True):
        try:
            given = [f"{key}={value}" for key, value in setting.items()]
            experiments.append(load_config(config, given))
        except ConfigError as error:
            for line in str(error).splitlines():
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


def _state(folder: Path, experiment: Experiment) -> State:
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
