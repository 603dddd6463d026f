"""Cells of the table of a study, and the lines that explain it, as text."""

from typing import Protocol

from growmas.config.formatting import short_keys, show
from growmas.explanation import Explanation
from growmas.runs.intervals import Difference, Interval
from growmas.runs.study import METRIC_KINDS, Metric, Setting, Study

_ALWAYS = ("forgetting", "numbers", "cpu_seconds")


class Signs(Protocol):
    """The characters of a table that are not letters or digits."""

    @property
    def nothing(self) -> str:
        """Stands where there is no value."""

    @property
    def minus(self) -> str:
        """Stands before a negative number."""

    @property
    def best(self) -> str:
        """Marks a difference that holds."""


def cells(study: Study, signs: Signs) -> tuple[list[str], list[str], list[list[str]]]:
    """Return the headings of names, the headings of numbers, and the rows."""
    headings = short_keys(study.varied)
    names = [headings[key] for key in study.varied] or ["setting"]
    others = [METRIC_KINDS[name] for name in _ALWAYS if name != study.metric.name]
    seeds = max(each.n for each in study.intervals if each) > 1
    tested = seeds and len(study.settings) > 1 and not study.reasons
    numbers = ["seeds", study.metric.heading]
    numbers += ["difference", "p"] if tested else []
    numbers += [each.heading for each in others]
    rows = []
    for i, setting in enumerate(study.settings):
        values = setting.values
        row = [
            show(values[key]).strip('"') if key in values else signs.nothing for key in study.varied
        ] or [setting.name]
        row += [_seeds(setting), _interval(study.intervals[i], study.metric, signs)]
        if tested:
            row += _difference(study, i, signs)
        row += [_mean(setting, each, signs) for each in others]
        rows.append(row)
    return names, numbers, rows


def _seeds(setting: Setting) -> str:
    finished = len(setting.runs)
    return f"{finished}/{finished + setting.unfinished}" if setting.unfinished else str(finished)


def _number(value: float, metric: Metric, signs: Signs, *, sign: str = "") -> str:
    if metric.percent:
        return f"{100 * value:{sign}.1f}".replace("-", signs.minus)
    return f"{value:{sign},.{0 if abs(value) >= 100 else 1}f}".replace("-", signs.minus)


def _interval(interval: Interval | None, metric: Metric, signs: Signs, *, sign: str = "") -> str:
    if interval is None:
        return signs.nothing
    mean = _number(interval.mean, metric, signs, sign=sign)
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return mean
    ends = (_number(end, metric, signs, sign=sign) for end in (interval.low, interval.high))
    return f"{mean} [{', '.join(ends)}]"


def _difference(study: Study, i: int, signs: Signs) -> list[str]:
    if i == study.baseline:
        return ["baseline", ""]
    difference = study.differences[i]
    if difference is None:
        return [signs.nothing, signs.nothing]
    mark = signs.best if difference.holds else " "
    return [
        _interval(difference.interval, study.metric, signs, sign="+") + mark,
        _p(difference, signs),
    ]


def _p(difference: Difference, signs: Signs) -> str:
    if difference.adjusted is None:
        return signs.nothing
    return "<.001" if difference.adjusted < 0.001 else f"{difference.adjusted:.3f}"


def _mean(setting: Setting, metric: Metric, signs: Signs) -> str:
    mean = setting.mean(metric)
    return signs.nothing if mean is None else _number(mean, metric, signs)


def notes(study: Study, signs: Signs) -> list[str]:
    """Return the lines below the table."""
    lines: list[str] = []
    counts = {each.n for each in study.intervals if each}
    if study.reasons:
        lines.append(f"These runs do not compare: {'; '.join(study.reasons)}.")
    if max(counts) > 1:
        lines.append(Explanation("[ ] 95% bootstrap interval of the mean over seeds."))
    common = sorted({each.interval.n for each in study.differences if each})
    if common and common[-1] > 1:
        lines.append(
            f"difference: to the baseline, seed by seed (n = {', '.join(map(str, common))}); p: "
            f"paired t-test with Holm's correction; {signs.best} p < .05."
        )
    elif len(study.settings) > 1 and not study.reasons:
        lines.append("Fewer than two common seeds: no difference was tested.")
    if any(setting.unfinished for setting in study.settings):
        lines.append("n/m seeds: only the n finished runs count.")
    if study.metric.percent:
        kept = "In percent. Numbers kept: parameters, and what the method stores."
        lines.append(Explanation(kept))
    return lines
