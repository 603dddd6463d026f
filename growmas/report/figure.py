"""Figures, and the parts that they share: frames, axes, legends."""

from collections.abc import Sequence
from dataclasses import dataclass

from growmas.report.palette import LEVELS
from growmas.report.scale import Scale, task_labels
from growmas.report.svg import Drawing
from growmas.rounding import short

WIDTH = 960
NARROW = 480
"""Pixels across a figure, and across the same one for a narrow window."""
_LINE = 17.0  # pixels from one row of a legend to the next
LEFT = 46  # pixels for the numbers of an axis
Cell = str | int | float | None


@dataclass(frozen=True)
class Numbers:
    """The numbers of a figure as a table.

    Attributes:
        head: Names of the columns.
        rows: Rows with one value per column.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Attributes:
        key: Short name, also of its file.
        title: Title.
        caption: Text on how to read it.
        drawing: The picture.
        numbers: Its numbers as a table.
    """

    key: str
    title: str
    caption: str
    drawing: Drawing
    numbers: Numbers


@dataclass(frozen=True)
class Frame:
    """The box of a panel, in pixels.

    Attributes:
        x: Left edge.
        y: Upper edge.
        width: Width.
        height: Height.
    """

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.y + self.height

    def upward(self, low: float, high: float) -> Scale:
        """Return a scale from the lower edge to the upper edge."""
        return Scale(low, high, self.bottom, self.y)


def draw_values(
    drawing: Drawing, frame: Frame, scale: Scale, *, marks: Sequence[str] | None = None
) -> None:
    """Draw lines across a frame with their numbers on the left."""
    words = marks or [short(abs(tick)) for tick in scale.ticks]
    for tick, word in zip(scale.ticks, words, strict=True):
        y = scale.at(tick)
        drawing.line(frame.x, y, frame.right, y, "axis" if tick == 0 else "rule")
        drawing.text(frame.x - 7, y + 3.5, word, anchor="end")


def draw_tasks(
    drawing: Drawing, frame: Frame, tasks: Sequence[str], *, heading: bool = True, drop: float = 31
) -> None:
    """Draw the names of tasks below a frame."""
    step = frame.width / len(tasks)
    labels = task_labels(tasks, step)
    for i, label in enumerate(labels.labels):
        x = frame.x + (i + 0.5) * step
        drawing.text(x, frame.bottom + 15, label, anchor="middle")
    if heading:
        drawing.text(frame.right, frame.bottom + drop, f"{labels.heading} →", anchor="end")


def draw_targets(drawing: Drawing, frame: Frame, tips: Sequence[str]) -> None:
    """Add a column per task that shows its tip under a pointer."""
    data = {"kind": "columns", "rows": 1, "columns": len(tips), "tips": list(tips)}
    drawing.hit_area(frame.x, frame.y, frame.width, frame.height, data)


def draw_legend(
    drawing: Drawing, y: float, entries: Sequence[tuple[str, str]], *, x: float = 0
) -> float:
    """Draw boxes with their meanings in rows; return the base line of the last row.

    Args:
        drawing: To add them to.
        y: Base line of the words in the first row.
        entries: Style of a box, and its meaning.
        x: Where the first row begins.
    """
    for style, words in entries:
        room = 17 + 6.1 * len(words)
        if x > 0 and x + room > drawing.width:
            x, y = 0, y + _LINE
        drawing.rect(x + 0.5, y - 9, 11, 10, style)
        drawing.text(x + 17, y, words)
        x += room + 20
    return y


def draw_shades(drawing: Drawing, y: float, letter: str, ends: tuple[str, str]) -> float:
    """Draw all shades of a kind between the words for least and most; return the right end."""
    drawing.text(0, y, ends[0])
    x = 6.1 * len(ends[0]) + 8
    for i in range(LEVELS):
        drawing.rect(x + 13 * i, y - 9, 13, 10, f"{letter}{i}")
    x += 13 * LEVELS + 8
    drawing.text(x, y, ends[1])
    return x + 6.1 * len(ends[1]) + 24
