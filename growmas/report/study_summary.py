"""The summary of settings over seeds for a report, read from the results and curves of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from growmas.errors import GrowmasError, RunError
from growmas.report.comparison import shared_tasks
from growmas.runs.collection import Collection
from growmas.runs.curves import CurvePoint, read_curves
from growmas.runs.intervals import Interval
from growmas.runs.result import RunResult
from growmas.runs.study import METRIC_KINDS, Study, compare_settings, group_by_seed


@dataclass(frozen=True)
class SettingSummary:
    """The runs of one setting, which differ in the seed alone.

    Attributes:
        label: What tells it from the others.
        runs: The finished runs.
        metric: Interval of what the settings are compared by; None without a finished run.
        accuracy: Interval of ACC; None without a finished run.
        numbers: Interval of the numbers kept; None without a finished run.
        losses: (step, loss) of every epoch, or point of a task-free run, for each run that has
            curves.
    """

    label: str
    runs: tuple[RunResult, ...]
    metric: Interval | None
    accuracy: Interval | None
    numbers: Interval | None
    losses: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class StudySummary:
    """Settings side by side.

    Attributes:
        name: Title of the report.
        study: The comparison, with its tests.
        settings: In the order of the study.
        problems: Says which runs could not be read.
    """

    name: str
    study: Study
    settings: tuple[SettingSummary, ...]
    problems: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...] | None:
        """Names of the tasks, the longest list; None if the runs learnt different tasks."""
        return shared_tasks([run.tasks for each in self.settings for run in each.runs])


def read_study(
    collection: Collection,
    name: str,
    *,
    metric: str = "accuracy",
    baseline: str | None = None,
) -> StudySummary:
    """Compare the settings of runs, and read their curves.

    Args:
        collection: Of `growmas.sweep.collecting.collect_runs`.
        name: Title of the report.
        metric: A name of `growmas.runs.study.METRIC_KINDS`.
        baseline: The setting that the others are compared with; by default the best.

    Raises:
        RunError: No run is finished, the metric or the baseline does not exist, or there are
            several seeds and scipy is not installed.
    """
    if not isinstance(collection, Collection):
        raise RunError(
            f"expected a Collection, as collect_runs returns, got {type(collection).__name__}"
        )
    study = compare_settings(group_by_seed(collection.triples), metric=metric, baseline=baseline)
    folders = {id(run.result): run.folder for run in collection.runs}
    settings = []
    for setting, label, interval in zip(study.settings, study.labels, study.intervals, strict=True):
        curves = [_losses(_curves(folders[id(run)])) for run in setting.runs]
        settings.append(
            SettingSummary(
                label,
                setting.runs,
                interval,
                setting.interval(METRIC_KINDS["accuracy"]),
                setting.interval(METRIC_KINDS["numbers"]),
                tuple(each for each in curves if each),
            )
        )
    return StudySummary(name, study, tuple(settings), collection.problems)


def _curves(folder: Path) -> Sequence[CurvePoint]:
    try:
        return read_curves(folder)
    except GrowmasError:  # the run has none
        return ()


def _losses(points: Sequence[CurvePoint]) -> tuple[tuple[int, float], ...]:
    """Return step and loss of each point; points of a run without steps are counted."""
    counted = all(point.step == 0 for point in points)
    return tuple(
        (i + 1 if counted else point.step, point.loss)
        for i, point in enumerate(points)
        if point.loss is not None
    )
