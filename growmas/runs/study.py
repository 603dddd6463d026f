"""Settings side by side, each over its seeds, with intervals and paired tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from growmas.config import config_leaves
from growmas.config.formatting import short_keys
from growmas.errors import ConfigError, RunError
from growmas.runs.comparison import compare
from growmas.runs.directory import CONFIG
from growmas.runs.intervals import Difference, Interval, holm, paired_difference
from growmas.runs.result import RunResult
from growmas.suggestion import suggestion

_OWN = {"name", "seed"}
"""Keys in which runs of one setting may differ."""


@dataclass(frozen=True)
class Metric:
    """A number of a run.

    Attributes:
        name: As `--metric` has it.
        heading: Of its column.
        value: Returns the number; None where a run has none.
        percent: True for a share, printed in percent.
        higher: True if higher is better.
    """

    name: str
    heading: str
    value: Callable[[RunResult], float | None]
    percent: bool = False
    higher: bool = False


METRIC_KINDS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "ACC", lambda run: run.average_accuracy, percent=True, higher=True),
        Metric("transfer", "BWT", lambda run: run.backward_transfer, percent=True, higher=True),
        Metric("forgetting", "forgetting", lambda run: run.forgetting, percent=True),
        Metric("numbers", "numbers kept", lambda run: run.numbers_kept),
        Metric("parameters", "parameters", lambda run: run.parameters),
        Metric("cpu_seconds", "CPU s", lambda run: run.cpu_seconds),
        Metric("seconds", "seconds", lambda run: run.seconds),
    )
}


@dataclass(frozen=True)
class Setting:
    """Runs whose configs differ in name and seed alone.

    Attributes:
        name: Of its first run, or of the setting itself.
        values: Key -> value of the config, in dotted keys; empty if the config cannot be read.
        runs: The finished ones, a run a seed.
        unfinished: Number of runs that are left out, since they are not finished.
    """

    name: str
    values: Mapping[str, object]
    runs: tuple[RunResult, ...]
    unfinished: int = 0

    def by_seed(self, metric: Metric) -> dict[int, float]:
        """Return seed -> number."""
        values = {run.seed: metric.value(run) for run in self.runs}
        return {seed: value for seed, value in values.items() if value is not None}

    def interval(self, metric: Metric) -> Interval | None:
        """Return the mean over seeds with its interval; None without a finished run."""
        return Interval.of(list(self.by_seed(metric).values()))

    def mean(self, metric: Metric) -> float | None:
        """Return the mean over seeds; None without a finished run."""
        values = self.by_seed(metric).values()
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Study:
    """Settings, compared by one metric.

    Attributes:
        settings: In the order in which they came.
        varied: Keys whose values differ between the configs that have them.
        metric: What is compared.
        baseline: Position of the setting that the others are compared with.
        intervals: Of the metric, by setting; None without a finished run.
        differences: To the baseline, by setting; None for the baseline, without a common seed,
            and where runs do not compare.
        reasons: Why the numbers do not compare; empty if they do.
    """

    settings: tuple[Setting, ...]
    varied: tuple[str, ...]
    metric: Metric
    baseline: int
    intervals: tuple[Interval | None, ...]
    differences: tuple[Difference | None, ...]
    reasons: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each setting: the values in which settings differ, or that of its first run."""
        labels = [",".join(_label(each, self.varied)) or each.name for each in self.settings]
        alike = len(set(labels)) < len(labels)
        return tuple(each.name for each in self.settings) if alike else tuple(labels)

    def as_data(self) -> list[dict[str, Any]]:
        """Return a JSON-ready dict for each setting."""
        rows: list[dict[str, Any]] = []
        for i, setting in enumerate(self.settings):
            difference = self.differences[i]
            rows.append(
                {
                    "name": setting.name,
                    "values": {key: setting.values.get(key) for key in self.varied},
                    "seeds": [run.seed for run in setting.runs],
                    "unfinished": setting.unfinished,
                    "metric": self.metric.name,
                    **_interval_data(self.intervals[i]),
                    "baseline": i == self.baseline,
                    "difference": difference and _interval_data(difference.interval),
                    "p": difference and difference.p,
                    "p_holm": difference and difference.adjusted,
                    "holds": difference.holds if difference else None,
                    **{name: setting.mean(each) for name, each in METRIC_KINDS.items()},
                }
            )
        return rows


def group_by_seed(runs: Sequence[tuple[str, Path, RunResult]]) -> tuple[Setting, ...]:
    """Group runs into settings by their configs, in the order in which they came.

    Args:
        runs: Name, directory and result of each run. A second finished run of the same setting
            and seed is a setting of its own.
    """
    alike: dict[object, list[tuple[str, RunResult]]] = {}
    values: dict[object, Mapping[str, object]] = {}
    for name, folder, result in runs:
        config = _config(folder)
        key: object = repr(sorted(config.items())) if config else folder
        if any(each.seed == result.seed for _, each in alike.get(key, ())):
            key = folder
        alike.setdefault(key, []).append((name, result))
        values[key] = config
    return tuple(
        Setting(
            name=members[0][0],
            values=values[key],
            runs=tuple(run for _, run in members if run.finished),
            unfinished=sum(not run.finished for _, run in members),
        )
        for key, members in alike.items()
    )


def compare_settings(
    settings: Sequence[Setting], *, metric: str = "accuracy", baseline: str | None = None
) -> Study:
    """Compare settings with a baseline, seed by seed.

    Args:
        settings: Of `group_by_seed`.
        metric: A name of `METRIC_KINDS`.
        baseline: A setting: its name, or values that it alone has, such as "mas" or
            "kind=mas,strength=0.1"; by default the best by the metric.

    Raises:
        RunError: The metric or the baseline does not exist or is not unique, no run is finished,
            or scipy is not installed.
    """
    if metric not in METRIC_KINDS:
        raise RunError(
            f"there is no metric {metric!r}; {suggestion(metric, METRIC_KINDS, 'metric')}"
        )
    kind = METRIC_KINDS[metric]
    means = {i: mean for i, each in enumerate(settings) if (mean := each.mean(kind)) is not None}
    if not means:
        raise RunError("none of these runs is finished: there is nothing to compare yet")
    chosen = _position(settings, baseline, means, kind)
    reasons = compare(run for each in settings for run in each.runs).differences
    theirs = settings[chosen].by_seed(kind)
    differences = [
        None if i == chosen or reasons else paired_difference(each.by_seed(kind), theirs)
        for i, each in enumerate(settings)
    ]
    adjusted = holm([each.p if each else None for each in differences])
    return Study(
        settings=tuple(settings),
        varied=_varied([each.values for each in settings]),
        metric=kind,
        baseline=chosen,
        intervals=tuple(each.interval(kind) for each in settings),
        differences=tuple(
            each and replace(each, adjusted=p)
            for each, p in zip(differences, adjusted, strict=True)
        ),
        reasons=reasons,
    )


def _position(
    settings: Sequence[Setting], baseline: str | None, means: Mapping[int, float], kind: Metric
) -> int:
    """Return the position of the baseline, given by name or by its values; else of the best."""
    if baseline is None:
        return max(means, key=lambda i: means[i] if kind.higher else -means[i])
    parts = set(baseline.split(","))
    labels = [_label(each, _varied([each.values for each in settings])) for each in settings]
    matching = [
        i
        for i, (each, label) in enumerate(zip(settings, labels, strict=True))
        if each.name == baseline or parts <= {*label, *label.values()}
    ]
    if not matching:
        known = [",".join(label) or each.name for each, label in zip(settings, labels, strict=True)]
        raise RunError(
            f"there is no setting {baseline!r}; {suggestion(baseline, known, 'setting')}"
        )
    if len(matching) > 1:
        several = " and ".join(",".join(labels[i]) or settings[i].name for i in matching[:2])
        raise RunError(f"the baseline {baseline!r} is not one setting: {several}; name one of them")
    if matching[0] not in means:
        raise RunError(f"the baseline {baseline!r} has no finished run yet")
    return matching[0]


def _label(setting: Setting, varied: Sequence[str]) -> dict[str, str]:
    """Return "key=value" -> value of what tells a setting from the others, in short keys."""
    short = short_keys(varied)
    values = {key: str(setting.values[key]) for key in varied if key in setting.values}
    return {f"{short[key]}={value}": value for key, value in values.items()}


def _config(folder: Path) -> dict[str, object]:
    """Return the config of a run in dotted keys, without what runs of one setting differ in."""
    try:
        leaves = config_leaves(folder / CONFIG)
    except ConfigError:
        return {}
    return {key: value for key, value in leaves.items() if key not in _OWN}


def _varied(configs: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Return the keys whose values differ between the configs that have them.

    A key that only some kinds of method have, with one value throughout, tells nothing apart.
    """
    if not all(configs):
        return ()
    keys = dict.fromkeys(key for config in configs for key in config)
    return tuple(
        key for key in keys if len({repr(each[key]) for each in configs if key in each}) > 1
    )


def _interval_data(interval: Interval | None) -> dict[str, Any]:
    return asdict(interval) if interval else dict.fromkeys(("mean", "low", "high", "n"))
