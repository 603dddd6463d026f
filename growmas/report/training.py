"""The figure of training: the loss of every epoch, and the other numbers written with it."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from growmas.report.axis import draw_upward, fitting_axis
from growmas.report.figure import LEFT, WIDTH, Figure, Frame, Numbers
from growmas.report.run_summary import RunSummary
from growmas.report.scale import Scale, fitted
from growmas.report.svg import Drawing
from growmas.rounding import short
from growmas.runs.curves import CurvePoint

_ACROSS = 3
_GAP = 30
_RIGHT = 14  # pixels for half of the last number of an axis
_HEIGHT = 92.0  # pixels of a small panel
_MOST = 12  # small panels; the table of numbers has all

_Values = Callable[[CurvePoint], float | None]
_OTHERS: tuple[tuple[str, _Values], ...] = (
    ("penalty", lambda point: point.penalty),
    ("accuracy of the task", lambda point: point.accuracy),
    ("mean accuracy so far", lambda point: point.mean_accuracy),
    ("learning rate", lambda point: point.learning_rate),
)


def draw_training(run: RunSummary, width: float = WIDTH) -> Figure | None:
    """Draw the loss in a large panel, other numbers in small ones; None without curves."""
    losses = [(x, point.loss) for x, point in _places(run.curves) if point.loss is not None]
    others = _others(run.curves)
    if not losses:
        return None
    drawing = Drawing(width)
    last = max(x for x, _ in losses)
    frame = Frame(LEFT, 28, width - LEFT - _RIGHT, 180)
    _panel(drawing, frame, "task loss", losses, last)
    _tasks(drawing, frame, run.curves, last)
    across = _ACROSS if width >= WIDTH else 2
    top, room = frame.bottom + 66, (width - (across - 1) * _GAP) / across
    for i, (name, values) in enumerate(others[:_MOST]):
        left = (i % across) * (room + _GAP) + LEFT
        small = Frame(left, top + (i // across) * (_HEIGHT + 52), room - LEFT - _RIGHT, _HEIGHT)
        _panel(drawing, small, name, values, last)
    rows = -(-min(len(others), _MOST) // across)
    drawing.height = top + rows * (_HEIGHT + 52) - 20 if others else frame.bottom + 40
    free = all(point.epoch is None for point in run.curves)
    return Figure(
        key="training",
        title="While training",
        caption=(
            f"Numbers of {'the steps between two points' if free else 'every epoch'}, over "
            "training steps; lines down are where a task begins."
        ),
        drawing=drawing,
        numbers=_numbers(run.curves),
    )


def _places(points: Sequence[CurvePoint]) -> list[tuple[int, CurvePoint]]:
    """Return the step of each point; points without steps are counted."""
    counted = all(point.step == 0 for point in points)
    return [(i + 1 if counted else point.step, point) for i, point in enumerate(points)]


def _others(points: Sequence[CurvePoint]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return (step, number) of each number that the run has; signals of groups come last."""
    names = dict.fromkeys(name for point in points for name in point.signals)
    signals = [(name, _signal(name)) for name in sorted(names, key=lambda name: "/" in name)]
    found = []
    for name, value in (*_OTHERS, *signals):
        known = [(x, y) for x, point in _places(points) if (y := value(point)) is not None]
        if known:
            found.append((name, known))
    return found


def _signal(name: str) -> _Values:
    return lambda point: point.signals.get(name)


def _panel(
    drawing: Drawing, frame: Frame, name: str, values: Sequence[tuple[int, float]], last: int
) -> None:
    upward = fitting_axis([y for _, y in values], frame.bottom, frame.y, from_zero=True)
    across = Scale(0, last, frame.x, frame.right)
    heading = fitted(upward.heading(name), frame.width)
    drawing.text(frame.x, frame.y - 12, heading, "tb")
    draw_upward(drawing, frame, upward)
    points = [(across.at(x), upward.at(y)) for x, y in values]
    drawing.polyline(points, "l0")
    if len(points) <= 40:
        for (x, y), (step, value) in zip(points, values, strict=True):
            tip = f"{name}\nstep {step:,}: {short(value)}"
            drawing.circle(x, y, 2.5, "p0", tip=tip)
    for tick in across.ticks[:: 1 if frame.width > 400 else 2]:
        drawing.text(across.at(tick), frame.bottom + 16, short(tick), anchor="middle")


def _tasks(drawing: Drawing, frame: Frame, points: Sequence[CurvePoint], last: int) -> None:
    """Draw a line where each task begins, with its name where there is room."""
    across, free = Scale(0, last, frame.x, frame.right), frame.x
    places = _places(points)
    starts = [(0, places[0][1].name)]
    for (before, one), (_, other) in pairwise(places):
        if other.task != one.task:
            starts.append((before, other.name))
    for step, name in starts:
        x = across.at(step)
        drawing.line(x, frame.y, x, frame.bottom, "axis")
        if x >= free:
            room = min(90.0, frame.right + _RIGHT - x - 4)
            drawing.text(x + 4, frame.y + 9, fitted(name, room))
            free = x + min(room, 6.1 * len(name)) + 12
    drawing.text(frame.right, frame.bottom + 34, "training steps →", anchor="end")


def _numbers(points: Sequence[CurvePoint]) -> Numbers:
    names = list(dict.fromkeys(name for point in points for name in point.signals))
    head = ("task", "epoch", "step", "loss", *(name for name, _ in _OTHERS), *names)
    rows = tuple(
        (
            point.name,
            point.epoch,
            step,
            point.loss,
            *(value(point) for _, value in _OTHERS),
            *(point.signals.get(name) for name in names),
        )
        for step, point in _places(points)
    )
    return Numbers(head, rows)
