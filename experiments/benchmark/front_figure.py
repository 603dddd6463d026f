"""The figure of accuracy against numbers kept, drawn by the parts of a growmas report."""

import math

from growmas.metrics import average_accuracy
from growmas.report.comparison import apart
from growmas.report.export import as_svg
from growmas.report.figure import LEFT, WIDTH, Figure, Frame, Numbers, draw_values
from growmas.report.scale import Scale
from growmas.report.svg import Drawing
from growmas.rounding import short
from growmas.runs.intervals import Interval

SHOWN = (
    "frozen, own gains",
    "frozen, not grown",
    "separate",
    "warm copies",
    "low-rank adapters",
    "one network, mas",
)
"""As many as there are colours; the others are in the table."""
TICKS = (2000, 5000, 10_000, 20_000)
_NAMES = 160  # pixels for names at the ends of lines


def front_svg(scenario, settings):
    """Return the figure of a scenario as SVG.

    Args:
        scenario: Whose methods are "method | size".
        settings: A `Setting` for each of them that has results.
    """
    lines = {name: points_of(name, settings) for name in SHOWN}
    known = [point for line in lines.values() for point in line]
    frame = Frame(LEFT, 28, WIDTH - LEFT - _NAMES, 320)
    upward = _upward(frame, known)
    logs = [math.log10(numbers) for numbers, *_ in known]
    across = Scale(min(logs) - 0.05, max(logs) + 0.05, frame.x, frame.right)
    drawing = Drawing(WIDTH, frame.bottom + 44)
    drawing.text(frame.x, frame.y - 12, "ACC over seeds, the task known", "tb")
    draw_values(drawing, frame, upward, marks=[f"{100 * tick:.4g}%" for tick in upward.ticks])
    for tick in TICKS:
        x = across.at(math.log10(tick))
        if frame.x <= x <= frame.right:
            drawing.text(x, frame.bottom + 16, short(tick), anchor="middle")
    heading = "numbers kept after five tasks (log scale) →"
    drawing.text(frame.right, frame.bottom + 34, heading, anchor="end")
    ends = []
    for i, (name, line) in enumerate(lines.items()):
        places = [(across.at(math.log10(n)), upward.at(mean.mean)) for n, mean in line]
        if not places:
            continue
        drawing.polyline(places, f"l{i}")
        for (x, y), (numbers, mean) in zip(places, line, strict=True):
            if mean.low is not None:
                top, bottom = upward.at(mean.high), upward.at(mean.low)
                drawing.rect(x - 1, top, 2, max(bottom - top, 1.0), f"p{i}")
            tip = f"{name}\nACC {100 * mean.mean:.1f}%, {numbers:,.0f} numbers kept"
            drawing.circle(x, y, 4.5, f"p{i}", tip=tip)
        ends.append((places[-1][1], places[-1][0], i, name))
    ends.sort()
    for (y, x, i, name), place in zip(ends, apart([y for y, *_ in ends], 13.0), strict=True):
        drawing.path(f"M{x + 3:.1f} {y:.1f}L{frame.right + 8} {place:.1f}", "link")
        drawing.text(frame.right + 12, place + 3.5, name, f"n{i}")
    rows = tuple((name, n, mean.mean) for name, line in lines.items() for n, mean in line)
    return as_svg(
        Figure(
            key=scenario.name,
            title=scenario.title,
            caption="Accuracy against numbers kept; bars are 95% bootstrap intervals over seeds.",
            drawing=drawing,
            numbers=Numbers(("method", "numbers kept", "ACC"), rows),
        )
    )


def points_of(name, settings):
    """Return (numbers kept, interval of ACC) of a method at each size, by numbers."""
    found = []
    for setting in settings:
        if setting.name.partition(" | ")[0] == name:
            numbers = sum(run.numbers_kept for run in setting.runs) / len(setting.runs)
            values = [average_accuracy(run.accuracy) for run in setting.runs]
            found.append((numbers, Interval.of(values)))
    return sorted(found, key=lambda point: point[0])


def _upward(frame, known):
    ends = [end for _, mean in known for end in (mean.mean, mean.low, mean.high) if end is not None]
    pad = max((max(ends) - min(ends)) * 0.05, 0.005)
    return frame.upward(max(0.0, min(ends) - pad), min(1.0, max(ends) + pad))
