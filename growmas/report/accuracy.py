"""The figure of accuracy: on every task after every task, and how much was forgotten."""

from growmas.report.figure import (
    WIDTH,
    Figure,
    Frame,
    Numbers,
    draw_shades,
    draw_targets,
    draw_tasks,
    draw_values,
)
from growmas.report.palette import level, on_level
from growmas.report.run_summary import RunSummary
from growmas.report.scale import fitted, percent, row_labels, ticks
from growmas.report.svg import Drawing

_LEFT = 118  # pixels for the names of tasks
_LEFT_IF_NARROW = 92
_CELL = 34.0  # pixels per row, at most


def draw_accuracy(run: RunSummary, width: float = WIDTH) -> Figure | None:
    """Draw the matrix, and below it each task when learnt and at the end; None if unmeasured."""
    known = [value for row in run.accuracy for value in row if value is not None]
    if not known:
        return None
    tasks = len(run.tasks)
    low, high = _range(min(known), max(known))
    drawing = Drawing(width)
    draw_shades(drawing, 12, "a", (percent(low), percent(high)))
    row = min(_CELL, max(3.0, 420 / tasks))
    left = _LEFT if width >= WIDTH else _LEFT_IF_NARROW
    frame = Frame(left, 44, width - left, row * tasks)
    drawing.text(0, 36, "after learning …", "t")
    drawing.text(frame.x, 36, "accuracy on …", "t")
    _matrix(drawing, frame, run, low, high)
    below = Frame(left, frame.bottom + 54, frame.width, 110)
    _then_and_now(drawing, below, run)
    draw_tasks(drawing, below, run.tasks)
    drawing.height = below.bottom + 38
    return Figure(
        key="accuracy",
        title="Accuracy on every task, after every task",
        caption=(
            "Read a column downward to follow one task while later ones are learnt. Below: "
            "each task when it was learnt (ring) and after the last task (dot)."
        ),
        drawing=drawing,
        numbers=_numbers(run),
    )


def _matrix(drawing: Drawing, frame: Frame, run: RunSummary, low: float, high: float) -> None:
    tasks = len(run.tasks)
    across, down = frame.width / tasks, frame.height / tasks
    shares = [
        [None if value is None else (value - low) / (high - low) for value in row]
        for row in run.accuracy
    ]
    styles = [[None if s is None else level(s, "a") for s in row] for row in shares]
    gap = 2.0 if down > 12 else 0.0
    drawing.cells(frame.x, frame.y, (across, down), styles, gap=gap)
    every = max(1, -(-13 // int(max(down, 1))))
    names = row_labels(run.tasks, frame.x - 12)
    for i, name in enumerate(names):
        middle = frame.y + (i + 0.5) * down + 3.5
        if i % every == 0:
            drawing.text(frame.x - 8, middle, fitted(name, frame.x - 12), anchor="end")
        for j, value in enumerate(run.accuracy[i]):
            share = shares[i][j]
            if value is not None and share is not None and across > 36 and down > 12:
                x = frame.x + (j + 0.5) * across - gap / 2
                text = f"{100 * value:.1f}"
                drawing.text(x, middle - 0.5, text, on_level(share), anchor="middle")
    drawing.hit_area(
        frame.x,
        frame.y,
        frame.width,
        frame.height,
        {
            "kind": "accuracy",
            "rows": tasks,
            "columns": tasks,
            "values": [
                [None if value is None else round(value, 4) for value in row]
                for row in run.accuracy
            ],
        },
    )


def _then_and_now(drawing: Drawing, frame: Frame, run: RunSummary) -> None:
    measured = [row for row in run.accuracy if any(value is not None for value in row)]
    pairs = [(run.accuracy[j][j], measured[-1][j]) for j in range(len(run.tasks))]
    known = [value for pair in pairs for value in pair if value is not None]
    if not known:
        return
    scale = frame.upward(*_range(min(known), max(known)))
    drawing.text(frame.x, frame.y - 12, "when learnt (ring), at the end (dot)", "tb")
    draw_values(drawing, frame, scale, marks=[f"{100 * tick:.4g}%" for tick in scale.ticks])
    step = frame.width / len(pairs)
    radius = min(4.5, max(1.5, step / 4))
    tips = []
    for j, (then, now) in enumerate(pairs):
        x = frame.x + (j + 0.5) * step
        if then is not None and now is not None:
            drawing.line(x, scale.at(then), x, scale.at(now), "stem")
        if then is not None:
            drawing.circle(x, scale.at(then), radius, "ring")
        if now is not None:
            drawing.circle(x, scale.at(now), radius - 0.75, "dot")
        tips.append(f"{run.tasks[j]}\n{percent(then)} when learnt, {percent(now)} at the end")
    draw_targets(drawing, frame, tips)


def _range(low: float, high: float) -> tuple[float, float]:
    """Return round numbers below and above all values."""
    spread = max(high - low, 0.02)
    marks = ticks(low - spread, high + spread, most=12)
    below = max((mark for mark in marks if mark <= low), default=low)
    above = min((mark for mark in marks if mark >= high), default=high)
    below, above = max(below, 0.0) if low >= 0 else below, min(above, 1.0) if high <= 1 else above
    return (below, above) if above > below else (below - 0.01, above)


def _numbers(run: RunSummary) -> Numbers:
    rows = tuple(
        (run.tasks[i], run.tasks[j], value)
        for i, row in enumerate(run.accuracy)
        for j, value in enumerate(row)
        if value is not None
    )
    return Numbers(("after", "on", "accuracy"), rows)
