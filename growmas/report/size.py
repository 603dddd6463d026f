"""The figure of size and accuracy: parameters and mean accuracy over tasks."""

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
from growmas.report.run_summary import RunSummary
from growmas.report.scale import percent
from growmas.report.svg import Drawing
from growmas.rounding import short

_GAP = 40
_HEIGHT = 232.0  # pixels of a panel


def draw_size(run: RunSummary, width: float = WIDTH) -> Figure | None:
    """Draw both panels, next to each other if there is room; None if neither was recorded."""
    parameters = [None if size is None else float(size.parameters) for size in run.sizes]
    panels = [
        (title, values, form)
        for title, values, form in (
            ("parameters", parameters, short),
            ("mean accuracy over the tasks so far", list(run.mean_accuracy), percent),
        )
        if any(value is not None for value in values)
    ]
    if not panels:
        return None
    across = len(panels) if width >= WIDTH else 1
    drawing = Drawing(width, -(-len(panels) // across) * _HEIGHT)
    room = (width - (across - 1) * _GAP) / across
    for i, (title, values, form) in enumerate(panels):
        x, y = i % across * (room + _GAP), i // across * _HEIGHT
        frame = Frame(x + LEFT, y + 28, room - LEFT, 160)
        _panel(drawing, frame, run, title, values, whole=form is short)
    return Figure(
        key="size",
        title="Size and success",
        caption="Parameters and mean accuracy over the tasks so far, at the end of each task.",
        drawing=drawing,
        numbers=_numbers(run),
    )


def _panel(
    drawing: Drawing,
    frame: Frame,
    run: RunSummary,
    title: str,
    values: list[float | None],
    *,
    whole: bool,
) -> None:
    known = [(i, value) for i, value in enumerate(values) if value is not None]
    low, high = min(value for _, value in known), max(value for _, value in known)
    pad = max((high - low) * 0.15, abs(high) * 0.01)
    scale = frame.upward(0 if whole else max(0.0, low - pad), high + pad)
    drawing.text(frame.x, frame.y - 12, title, "tb")
    marks = [short(t) if whole else f"{100 * t:.4g}%" for t in scale.ticks]
    draw_values(drawing, frame, scale, marks=marks)
    step = frame.width / len(values)
    points = [(frame.x + (i + 0.5) * step, scale.at(value)) for i, value in known]
    if whole:
        area = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        ends = f"L{points[-1][0]:.1f} {frame.bottom}L{points[0][0]:.1f} {frame.bottom}z"
        drawing.path(f"M{area}{ends}", "w0")
    drawing.polyline(points, "l0")
    if step > 14:
        for x, y in points:
            drawing.circle(x, y, 3, "p0")
    x, y = points[-1]
    word = f"{known[-1][1]:,.0f}" if whole else percent(known[-1][1])
    drawing.text(min(x + 4, frame.right), y - 9, word, "n0", anchor="end")
    draw_tasks(drawing, frame, run.tasks)
    draw_targets(drawing, frame, [_tip(run, i) for i in range(len(values))])


def _tip(run: RunSummary, task: int) -> str:
    size, accuracy = run.sizes[task], run.mean_accuracy[task]
    parts = [run.tasks[task]]
    if size is not None:
        parts.append(f"{size.parameters:,} parameters")
        if size.flops is not None:
            parts.append(f"{short(size.flops)} FLOPs")
    if accuracy is not None:
        parts.append(f"mean accuracy {percent(accuracy)}")
    return "\n".join(parts)


def _numbers(run: RunSummary) -> Numbers:
    return Numbers(
        ("task", "index", "units", "parameters", "FLOPs", "mean accuracy"),
        tuple(
            (
                task,
                i,
                run.total[i].width,
                None if size is None else size.parameters,
                None if size is None else size.flops,
                run.mean_accuracy[i],
            )
            for i, (task, size) in enumerate(zip(run.tasks, run.sizes, strict=True))
        ),
    )
