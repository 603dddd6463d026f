"""The figures of a study: settings over seeds, with intervals."""

from collections.abc import Sequence

from growmas.report.axis import Axis, draw_upward, fitting_axis
from growmas.report.comparison import apart, names_room
from growmas.report.figure import (
    LEFT,
    WIDTH,
    Figure,
    Frame,
    Numbers,
    draw_targets,
    draw_tasks,
    draw_values,
)
from growmas.report.palette import SERIES
from growmas.report.scale import Scale, fitted, narrowed, percent
from growmas.report.study_summary import SettingSummary, StudySummary
from growmas.report.svg import Drawing
from growmas.rounding import short
from growmas.runs.intervals import Interval
from growmas.runs.study import Metric

_ROW = 30.0  # pixels per setting
_SIDES = 250, 150  # pixels for the names of settings on the left, and the numbers on the right
_SIDES_IF_NARROW = 140, 122


def study_figures(study: StudySummary, width: float = WIDTH) -> tuple[Figure, ...]:
    """Return all figures for which the runs have numbers."""
    drawn = (
        draw_intervals(study, width),
        draw_cost(study, width),
        draw_learning(study, width),
        draw_losses(study, width),
    )
    return tuple(figure for figure in drawn if figure is not None)


def draw_intervals(study: StudySummary, width: float = WIDTH) -> Figure:
    """Draw mean and interval of the metric in a row for each setting, with a dot for each seed."""
    metric, known = study.study.metric, [each for each in study.settings if each.metric]
    values = [value for each in known for value in _values(each, metric)]
    ends = [end for each in known for end in _ends(each.metric)]
    low, high = min([*values, *ends]), max([*values, *ends])
    pad = max((high - low) * 0.06, abs(high) * 0.004, 1e-9)
    sides = _SIDES if width >= WIDTH else _SIDES_IF_NARROW
    frame = Frame(sides[0], 26, width - sum(sides), _ROW * len(study.settings))
    scale = Scale(low - pad, high + pad, frame.x, frame.right)
    drawing = Drawing(width, frame.bottom + 40)
    drawing.text(frame.x, 12, metric.heading, "tb")
    for tick in scale.ticks:
        x = scale.at(tick)
        drawing.line(x, frame.y, x, frame.bottom, "rule")
        drawing.text(x, frame.bottom + 16, _shown(tick, metric), anchor="middle")
    base = study.settings[study.study.baseline].metric
    if base is not None:
        drawing.line(scale.at(base.mean), frame.y, scale.at(base.mean), frame.bottom, "axis")
    for i, each in enumerate(study.settings):
        y = frame.y + (i + 0.5) * _ROW
        baseline = i == study.study.baseline and len(study.settings) > 1
        _name_row(drawing, frame.x - 12, y, each.label, baseline=baseline)
        if each.metric is None:
            drawing.text(frame.right + 12, y + 3.5, "no finished run")
            continue
        _interval_mark(drawing, scale, y, each, i, metric)
        drawing.text(frame.right + 12, y + 3.5, _told(each.metric, metric), "tv")
    return Figure(
        key="intervals",
        title=f"{metric.heading} over seeds",
        caption=(
            "Each row is a setting: the mean with its 95% bootstrap interval, and a small dot for "
            "each seed. The line down is at the mean of the baseline."
        ),
        drawing=drawing,
        numbers=_interval_numbers(study),
    )


def _name_row(drawing: Drawing, right: float, y: float, label: str, *, baseline: bool) -> None:
    """Write the name of a setting; "(baseline)" goes below it where there is no room behind."""
    whole = f"{label} (baseline)" if baseline else label
    if fitted(whole, right) == whole or not baseline:
        drawing.text(right, y + 3.5, narrowed(whole, right), "tv", anchor="end")
        return
    drawing.text(right, y - 2, narrowed(label, right), "tv", anchor="end")
    drawing.text(right, y + 10, "(baseline)", anchor="end")


def _interval_mark(
    drawing: Drawing, scale: Scale, y: float, each: SettingSummary, i: int, metric: Metric
) -> None:
    interval = each.metric
    if interval is None:
        return
    if interval.low is not None and interval.high is not None:
        left, right = scale.at(interval.low), scale.at(interval.high)
        drawing.rect(left, y - 2.5, max(right - left, 1.0), 5, f"p{i % SERIES}")
    for run in each.runs:
        value = metric.value(run)
        if value is not None:
            tip = f"{each.label}\nseed {run.seed}: {_shown(value, metric)}"
            drawing.circle(scale.at(value), y + 9, 2.5, f"p{i % SERIES}", tip=tip)
    tip = f"{each.label}\n{_told(interval, metric)}, {interval.n} seeds"
    drawing.circle(scale.at(interval.mean), y, 5.5, f"p{i % SERIES}", tip=tip)


def draw_cost(study: StudySummary, width: float = WIDTH) -> Figure | None:
    """Draw accuracy against the numbers kept; None if no run has both."""
    known = [
        (i, each, each.accuracy, each.numbers)
        for i, each in enumerate(study.settings)
        if each.accuracy is not None and each.numbers is not None and each.numbers.mean > 0
    ]
    if not known:
        return None
    frame = Frame(LEFT, 28, width - LEFT - names_room(width), 300)
    kept = [numbers.mean for _, _, _, numbers in known]
    across = fitting_axis(kept, frame.x, frame.right, from_zero=True)
    ends = [end for _, _, accuracy, _ in known for end in _ends(accuracy)]
    pad = max((max(ends) - min(ends)) * 0.1, 0.01)
    upward = frame.upward(max(0.0, min(ends) - pad), min(1.0, max(ends) + pad))
    drawing = Drawing(width, frame.bottom + 44)
    drawing.text(frame.x, frame.y - 12, "ACC", "tb")
    marks = [f"{100 * tick:.4g}%" for tick in upward.ticks]
    draw_values(drawing, frame, upward, marks=marks)
    for tick in across.ticks:
        drawing.text(across.at(tick), frame.bottom + 16, short(tick), anchor="middle")
    drawing.text(frame.right, frame.bottom + 34, across.heading("numbers kept"), anchor="end")
    places: list[tuple[float, float, int, str]] = []
    for i, each, accuracy, numbers in known:
        x, y = across.at(numbers.mean), upward.at(accuracy.mean)
        if accuracy.low is not None and accuracy.high is not None:
            top, bottom = upward.at(accuracy.high), upward.at(accuracy.low)
            drawing.rect(x - 1.5, top, 3, max(bottom - top, 1.0), f"p{i % SERIES}")
        tip = f"{each.label}\nACC {percent(accuracy.mean)}, {numbers.mean:,.0f} numbers kept"
        drawing.circle(x, y, 5.5, f"p{i % SERIES}", tip=tip)
        places.append((y, x, i, each.label))
    _name_ends(drawing, frame, places)
    return Figure(
        key="cost",
        title="Accuracy against numbers kept",
        caption=(
            "Numbers kept: parameters after the last task, and what the method stores between "
            "tasks (statistics, anchors, samples). Bars are 95% bootstrap intervals over seeds."
        ),
        drawing=drawing,
        numbers=Numbers(
            ("setting", "ACC", "low", "high", "numbers kept"),
            tuple((e.label, a.mean, a.low, a.high, n.mean) for _, e, a, n in known),
        ),
    )


def draw_learning(study: StudySummary, width: float = WIDTH) -> Figure | None:
    """Draw the mean accuracy over the tasks so far, after each task; None for a single task."""
    lines = [
        [[sum(row) / len(row) for row in run.accuracy if row] for run in each.runs]
        for each in study.settings
    ]
    if max((len(line) for of in lines for line in of), default=0) < 2:
        return None
    most = max(len(line) for of in lines for line in of)
    known = [value for of in lines for line in of for value in line]
    frame = Frame(LEFT, 28, width - LEFT - names_room(width), 240)
    pad = max((max(known) - min(known)) * 0.08, 0.01)
    upward = frame.upward(max(0.0, min(known) - pad), min(1.0, max(known) + pad))
    drawing = Drawing(width, frame.bottom + 44)
    drawing.text(frame.x, frame.y - 12, "mean accuracy over the tasks so far", "tb")
    draw_values(drawing, frame, upward, marks=[f"{100 * tick:.4g}%" for tick in upward.ticks])
    step = frame.width / most
    bands = [_band(of) for of in lines]
    places = _draw_bands(
        drawing,
        [[(frame.x + (j + 0.5) * step, *each) for j, each in enumerate(of)] for of in bands],
        upward,
        [each.label for each in study.settings],
    )
    _name_ends(drawing, frame, places)
    tasks = study.tasks or tuple(f"task {j + 1}" for j in range(most))
    draw_tasks(drawing, frame, tasks)
    draw_targets(drawing, frame, [_learning_tip(study, bands, tasks, j) for j in range(most)])
    rows = tuple(
        (each.label, tasks[j], *band)
        for each, of in zip(study.settings, bands, strict=True)
        for j, band in enumerate(of)
    )
    return Figure(
        key="learning",
        title="Accuracy while tasks come",
        caption=(
            "Mean over seeds of the accuracy over all tasks so far, after each task; the band "
            "reaches from the lowest seed to the highest."
            + ("" if study.tasks else " The runs learnt different tasks, which are counted here.")
        ),
        drawing=drawing,
        numbers=Numbers(("setting", "after", "mean", "lowest", "highest"), rows),
    )


def _learning_tip(
    study: StudySummary,
    bands: Sequence[Sequence[tuple[float, float, float]]],
    tasks: Sequence[str],
    j: int,
) -> str:
    lines = [
        f"{each.label}: {percent(of[j][0])}"
        for each, of in zip(study.settings, bands, strict=True)
        if j < len(of)
    ]
    return "\n".join([f"after {tasks[j]}", *lines])


def draw_losses(study: StudySummary, width: float = WIDTH) -> Figure | None:
    """Draw the loss over training steps; None if no run has curves."""
    known = [loss for each in study.settings for line in each.losses for _, loss in line]
    if not known:
        return None
    last = max(step for each in study.settings for line in each.losses for step, _ in line)
    frame = Frame(LEFT, 28, width - LEFT - names_room(width), 240)
    upward = fitting_axis(known, frame.bottom, frame.y, from_zero=True)
    across = Scale(0, last, frame.x, frame.right)
    drawing = Drawing(width, frame.bottom + 44)
    drawing.text(frame.x, frame.y - 12, upward.heading("task loss"), "tb")
    draw_upward(drawing, frame, upward)
    for tick in across.ticks:
        drawing.text(across.at(tick), frame.bottom + 16, short(tick), anchor="middle")
    drawing.text(frame.right, frame.bottom + 34, "training steps →", anchor="end")
    rows: list[tuple[str, int, float, float, float]] = []
    lines = []
    for each in study.settings:
        band = _band([[loss for _, loss in line] for line in each.losses])
        steps = [step for step, _ in min(each.losses, key=len, default=())]
        lines.append([(across.at(s), *values) for s, values in zip(steps, band, strict=False)])
        rows += [(each.label, s, *values) for s, values in zip(steps, band, strict=False)]
    labels = [each.label for each in study.settings]
    _name_ends(drawing, frame, _draw_bands(drawing, lines, upward, labels))
    return Figure(
        key="losses",
        title="Loss while training",
        caption=(
            "Mean over seeds of the task loss of every epoch, or of the steps between two points "
            "of a task-free run; the band reaches from the lowest seed to the highest."
        ),
        drawing=drawing,
        numbers=Numbers(("setting", "step", "mean", "lowest", "highest"), tuple(rows)),
    )


def _band(lines: Sequence[Sequence[float]]) -> list[tuple[float, float, float]]:
    """Return mean, least and largest of each position that all lines have."""
    if not lines:
        return []
    return [(sum(at) / len(at), min(at), max(at)) for at in zip(*lines, strict=False)]


def _draw_bands(
    drawing: Drawing,
    lines: Sequence[Sequence[tuple[float, float, float, float]]],
    upward: Scale | Axis,
    labels: Sequence[str],
) -> list[tuple[float, float, int, str]]:
    """Draw (x, mean, low, high) of each setting; return y, x, index and label of each end."""
    places = []
    for i, (line, label) in enumerate(zip(lines, labels, strict=True)):
        if not line:
            continue
        top = [f"{x:.1f} {upward.at(high):.1f}" for x, _, _, high in line]
        bottom = [f"{x:.1f} {upward.at(low):.1f}" for x, _, low, _ in reversed(line)]
        drawing.path(f"M{'L'.join([*top, *bottom])}z", f"w{i % SERIES} run-{i}")
        points = [(x, upward.at(mean)) for x, mean, _, _ in line]
        drawing.polyline(points, f"l{i % SERIES} run-{i}")
        places.append((points[-1][1], points[-1][0], i, label))
    return places


def _name_ends(
    drawing: Drawing, frame: Frame, places: Sequence[tuple[float, float, int, str]]
) -> None:
    """Write each label on the right, joined to its point."""
    ranked = sorted(places)
    for (y, x, i, label), place in zip(ranked, apart([y for y, *_ in ranked], 13.0), strict=True):
        drawing.path(f"M{x + 3:.1f} {y:.1f}L{frame.right + 8} {place:.1f}", f"link run-{i}")
        name = narrowed(label, names_room(drawing.width) - 16)
        drawing.text(frame.right + 12, place + 3.5, name, f"n{i % SERIES} run-{i}")


def _ends(interval: Interval | None) -> list[float]:
    if interval is None:
        return []
    return [e for e in (interval.mean, interval.low, interval.high) if e is not None]


def _values(each: SettingSummary, metric: Metric) -> list[float]:
    return [value for run in each.runs if (value := metric.value(run)) is not None]


def _shown(value: float, metric: Metric) -> str:
    return f"{100 * value:.4g}%" if metric.percent else short(value)


def _told(interval: Interval, metric: Metric) -> str:
    mean = percent(interval.mean) if metric.percent else short(interval.mean)
    if interval.low is None or interval.high is None:
        return mean
    ends = (
        (f"{100 * end:.1f}" if metric.percent else short(end))
        for end in (interval.low, interval.high)
    )
    return f"{mean} [{', '.join(ends)}]"


def _interval_numbers(study: StudySummary) -> Numbers:
    metric = study.study.metric
    rows = tuple(
        (each.label, run.seed, metric.value(run), run.numbers_kept, run.parameters)
        for each in study.settings
        for run in each.runs
    )
    return Numbers(("setting", "seed", metric.heading, "numbers kept", "parameters"), rows)
