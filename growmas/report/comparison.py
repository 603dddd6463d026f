"""The figure that compares runs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from growmas.report.run_summary import RunSummary
from growmas.report.scale import common_start, narrowed, percent
from growmas.report.svg import Drawing
from growmas.rounding import short

Values = Sequence[float | None]


@dataclass(frozen=True)
class _Quantity:
    """A quantity by which runs are compared.

    Attributes:
        title: Title of its panel.
        values: Function that returns a run's values, one per task.
        form: Function that writes a value.
        from_zero: True if the axis begins at 0.
    """

    title: str
    values: Callable[[RunSummary], Values]
    form: Callable[[float], str]
    from_zero: bool


_QUANTITIES = (
    _Quantity("mean accuracy over the tasks so far", lambda run: run.mean_accuracy, percent, False),
    _Quantity("units", lambda run: [each.width for each in run.total], short, True),
    _Quantity(
        "parameters",
        lambda run: [None if size is None else size.parameters for size in run.sizes],
        short,
        True,
    ),
)


def draw_comparison(runs: Sequence[RunSummary], width: float = WIDTH) -> Figure:
    """Draw accuracy, units and parameters of all runs over their tasks."""
    drawing = Drawing(width)
    top = 28.0
    names = distinct([run.name for run in runs])
    longest = shared_tasks([run.tasks for run in runs])
    counted = [f"task {i + 1}" for i in range(max(len(run.tasks) for run in runs))]
    for quantity in _QUANTITIES:
        lines = [quantity.values(run) for run in runs]
        if not any(value is not None for line in lines for value in line):
            continue
        height = 190.0 if not quantity.from_zero else 130.0
        frame = Frame(LEFT, top, width - LEFT - names_room(width), height)
        _panel(drawing, frame, quantity, lines, names, longest or counted)
        top = frame.bottom + 62
    drawing.height = top - 18
    return Figure(
        key="comparison",
        title="Side by side",
        caption=(
            "Each line is a run; its name stands at its end. Point at one to bring it forward."
            + ("" if longest is not None else " The runs learnt different tasks, counted here.")
        ),
        drawing=drawing,
        numbers=_numbers(runs),
    )


def _panel(
    drawing: Drawing,
    frame: Frame,
    quantity: _Quantity,
    lines: Sequence[Values],
    names: Sequence[str],
    tasks: Sequence[str],
) -> None:
    known = [value for line in lines for value in line if value is not None]
    low, high = min(known), max(known)
    pad = max((high - low) * 0.08, high * 0.01)
    scale = frame.upward(0 if quantity.from_zero else max(0.0, low - pad), high + pad)
    drawing.text(frame.x, frame.y - 12, quantity.title, "tb")
    marks = [short(tick) if quantity.from_zero else f"{100 * tick:.4g}%" for tick in scale.ticks]
    draw_values(drawing, frame, scale, marks=marks)
    step = frame.width / len(tasks)
    ends: list[tuple[float, float, int]] = []
    for i, line in enumerate(lines):
        points = [
            (frame.x + (j + 0.5) * step, scale.at(value))
            for j, value in enumerate(line)
            if value is not None
        ]
        if points:
            drawing.polyline(points, f"l{i % SERIES} run-{i}")
            ends.append((points[-1][1], points[-1][0], i))
    places = apart([y for y, _, _ in sorted(ends)], 13.0)
    for (y, x, i), place in zip(sorted(ends), places, strict=True):
        last = next(value for value in reversed(lines[i]) if value is not None)
        drawing.path(f"M{x + 3:.1f} {y:.1f}L{frame.right + 8} {place:.1f}", f"link run-{i}")
        word = f"{quantity.form(last)}  {narrowed(names[i], names_room(drawing.width) - 78)}"
        drawing.text(frame.right + 12, place + 3.5, word, f"n{i % SERIES} run-{i}")
    draw_tasks(drawing, frame, tasks)
    tips = [
        "\n".join(
            [f"{quantity.title} · {task}"]
            + [
                f"{name}: {quantity.form(line[j] or 0.0)}"
                for name, line in zip(names, lines, strict=True)
                if j < len(line) and line[j] is not None
            ]
        )
        for j, task in enumerate(tasks)
    ]
    draw_targets(drawing, frame, tips)


def names_room(width: float) -> float:
    """Return the pixels for names at the ends of lines in a figure of some width."""
    return 190.0 if width >= WIDTH else 144.0


def shared_tasks(lists: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """Return the names of the tasks of all runs; None if the runs learnt different tasks."""
    longest = max(map(tuple, lists), key=len)
    return longest if all(longest[: len(each)] == tuple(each) for each in lists) else None


def distinct(names: Sequence[str]) -> list[str]:
    """Return names without the words that all of them begin with."""
    start = re.match(r".*[-_/ .]|", common_start(names))
    length = start.end() if start else 0
    return [name[length:] or name for name in names]


def apart(places: Sequence[float], least: float) -> list[float]:
    """Return places in rising order, moved so that they are at least `least` apart."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    over = moved[-1] - places[-1] if moved else 0.0
    return [place - over / 2 for place in moved]


def _numbers(runs: Sequence[RunSummary]) -> Numbers:
    rows = tuple(
        (
            run.name,
            task,
            run.mean_accuracy[i],
            run.total[i].width,
            None if size is None else size.parameters,
        )
        for run in runs
        for i, (task, size) in enumerate(zip(run.tasks, run.sizes, strict=True))
    )
    return Numbers(("run", "task", "mean accuracy", "units", "parameters"), rows)
