"""Curves of a run: a table of its epochs or steps, and a plot of its loss."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from growmas.rounding import short
from growmas.runs.curves import CurvePoint
from growmas.terminal.breaking import BreakingName
from growmas.terminal.plot import column, line
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, InParts, plain_table, with_notes

_ON_TRAINING = (
    "accuracy: of the task's own head, on training samples, as there are no validation samples "
    "(stream.validation)"
)
_ON_LAST = Explanation(
    "accuracy: on the last training samples, in the context that is being learnt"
)
_MEAN = Explanation("mean: test accuracy over the tasks so far, after the task")
_NAME_WIDTH = 20
_ROWS = 4  # of a plot in a panel
_SPREAD = 30.0  # times the least loss: above it the plot is logarithmic
_LABEL = 14  # columns for the name of a number in a panel
_SPARK = 24  # columns for its course, at most

_Column = tuple[str, Callable[[CurvePoint], float | None], str]
_COLUMNS: tuple[_Column, ...] = (
    ("loss", lambda point: point.loss, ".4f"),
    ("penalty", lambda point: point.penalty, ".3g"),
    ("learning rate", lambda point: point.learning_rate, ".3g"),
    ("accuracy", lambda point: point.accuracy, ".3f"),
    ("mean", lambda point: point.mean_accuracy, ".3f"),
)


def render_curves(points: Sequence[CurvePoint], *, ascii: bool = False) -> RenderableType:
    """Draw a row for each epoch, or for each point of a task-free run, for a rich console.

    Numbers that the run does not have get no column, and columns that have no room stand below the
    others. Of the signals those of the whole network are shown; those of single groups, such as
    "dormant/fc1", are in the data.

    Args:
        points: Of `growmas.runs.curves.read_curves`.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    shown = _columns(points)
    signs = symbols(ascii=ascii)
    table = InParts(lambda part: _table(points, shown[part.start : part.stop], signs), len(shown))
    trained = any(each.training is not None for each in points)
    free = all(each.epoch is None for each in points)
    notes: list[str] = [_ON_LAST if free else _ON_TRAINING] if trained else []
    notes += [_MEAN] if any(each.mean_accuracy is not None for each in points) else []
    return with_notes(table, notes) if notes else table


def _table(points: Sequence[CurvePoint], shown: Sequence[_Column], signs: Symbols) -> Table:
    """Return a table with some of the columns, and the tasks and epochs or steps before them."""
    free = all(each.epoch is None for each in points)
    table = plain_table(signs)
    table.add_column("task", max_width=_NAME_WIDTH, overflow="fold")
    for heading in ("step" if free else "epoch", *(name for name, _, _ in shown)):
        table.add_column(heading, justify="right")
    task = -1
    for each in points:
        values = [(value(each), form) for _, value, form in shown]
        table.add_row(
            BreakingName(each.name if each.task != task else ""),
            str(each.step if each.epoch is None else each.epoch),
            *("" if value is None else format(value, form) for value, form in values),
        )
        task = each.task
    return table


def _columns(points: Sequence[CurvePoint]) -> list[_Column]:
    """Return the columns for which there are numbers."""
    names = dict.fromkeys(name for each in points for name in each.signals if "/" not in name)
    signals = [(name, _signal(name), ".3g") for name in names]
    return [each for each in (*_COLUMNS, *signals) if any(each[1](p) is not None for p in points)]


def _signal(name: str) -> Callable[[CurvePoint], float | None]:
    return lambda point: point.signals.get(name)


@dataclass(frozen=True)
class CurvePanel:
    """A plot of the loss, and the course of each other number in a line below it.

    Attributes:
        points: Of the curves so far.
        rows: Number of lines of the plot.
        ascii: True to use ASCII characters only.
    """

    points: Sequence[CurvePoint]
    rows: int = _ROWS
    ascii: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        signs, width = symbols(ascii=self.ascii), options.max_width
        losses = [each.loss for each in self.points if each.loss is not None]
        if losses:
            logarithmic = min(losses) > 0 and max(losses) > _SPREAD * min(losses)
            yield _head(losses, logarithmic=logarithmic)
            heights = [math.log(each) for each in losses] if logarithmic else losses
            drawn = _joined(heights, width if self.ascii else 2 * width)
            plot = line(drawn, len(drawn), width, self.rows, ascii=self.ascii)
            yield Text("\n".join(plot), "#5fb2ee", no_wrap=True, overflow="crop")
            yield Text(self._tasks(width), "dim", no_wrap=True, overflow="crop")
        for name, value, _ in _columns(self.points):
            values = [known for each in self.points if (known := value(each)) is not None]
            if name != "loss" and values:
                yield _course(name, values, signs, width)

    def _tasks(self, width: int) -> str:
        """Return the numbers of the tasks below where each begins."""
        row = [" "] * (width + 3)
        free, last = 0, -1
        for index, each in enumerate(self.points):
            at = column(index, len(self.points), width)
            if each.task != last and at >= free:
                text = str(each.task + 1)
                row[at : at + len(text)] = text
                free = at + len(text) + 1
            last = each.task
        return "".join(row[:width])


def _joined(values: Sequence[float], least: int) -> Sequence[float]:
    """Return at least so many values, points between on straight lines, so that none is a dot."""
    if len(values) >= least:
        return values
    found = []
    for step in range(least):
        place = step * (len(values) - 1) / (least - 1)
        before = int(place)
        after = min(before + 1, len(values) - 1)
        found.append(values[before] + (place - before) * (values[after] - values[before]))
    return found


def _head(losses: Sequence[float], *, logarithmic: bool) -> Text:
    """Return a line with the last loss, and the scale of the plot below it."""
    text = _named("loss", losses[-1])
    scale = ", log scale" if logarithmic else ""
    return text.append(f"  {short(min(losses))} to {short(max(losses))}{scale}", "not bold dim")


def _course(name: str, values: Sequence[float], signs: Symbols, width: int) -> Text:
    """Return a line with the last value, and its course."""
    text = _named(name, values[-1])
    room = min(_SPARK, len(values), width - len(text) - 2)
    if room < 2:
        return text
    shown = [values[(i + 1) * len(values) // room - 1] for i in range(room)]
    return text.append(f"  {signs.draw_spark(shown)}", "#5fb2ee")


def _named(name: str, value: float) -> Text:
    text = Text(f"{name[:_LABEL]:<{_LABEL}}", "dim", no_wrap=True, overflow="crop")
    return text.append(f"{short(value):>7}", "bold not dim")


def remaining(share: float | None, seconds: float) -> str:
    """Return in words how long the rest takes, at the pace of the part that is done.

    Args:
        share: Part that is done, from 0 to 1; None where it is not known.
        seconds: Time that it took.

    >>> remaining(0.25, 20), remaining(0.5, 5400), remaining(None, 20), remaining(1.0, 20)
    ('1 min left', '1 h 30 min left', '', '')
    """
    if not share or share >= 1.0 or seconds <= 0.0:
        return ""
    left = seconds * (1 - share) / share
    if left < 59.5:
        return f"{left:.0f} s left"
    hours, minutes = divmod(round(left / 60), 60)
    return f"{hours} h {minutes} min left" if hours else f"{minutes} min left"
