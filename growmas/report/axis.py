"""Axes of numbers: linear, or logarithmic where the numbers spread over orders of magnitude."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from growmas.report.figure import Frame
from growmas.report.scale import Scale
from growmas.report.svg import Drawing
from growmas.rounding import short

_SPREAD = 30.0  # ratio of largest to least from which an axis is logarithmic


@dataclass(frozen=True)
class Axis:
    """A linear axis, or a logarithmic one where numbers spread over orders of magnitude.

    Attributes:
        scale: Positions; of logarithms to base 10 on a logarithmic axis.
        logarithmic: True for a logarithmic axis.
    """

    scale: Scale
    logarithmic: bool

    def at(self, value: float) -> float:
        """Return the pixel of a number."""
        if not self.logarithmic:
            return self.scale.at(value)
        return self.scale.at(
            max(self.scale.low, math.log10(value)) if value > 0 else self.scale.low
        )

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round numbers; powers of ten on a logarithmic axis."""
        if not self.logarithmic:
            return self.scale.ticks
        low, high = math.ceil(self.scale.low - 1e-9), math.floor(self.scale.high + 1e-9)
        every = max(1, (high - low) // 5)
        return tuple(10.0**power for power in range(low, high + 1, every))

    def heading(self, words: str) -> str:
        """Return the name of the axis."""
        return f"{words} (log scale)" if self.logarithmic else words


def fitting_axis(
    values: Sequence[float], start: float, end: float, *, from_zero: bool = False
) -> Axis:
    """Return an axis for numbers between two pixels, logarithmic if they spread far and are > 0.

    Args:
        values: All numbers.
        start: Pixel of the least.
        end: Pixel of the largest.
        from_zero: True to begin a linear axis at 0.
    """
    low, high = min(values), max(values)
    if low > 0 and high > _SPREAD * low:
        pad = (math.log10(high) - math.log10(low)) * 0.05
        return Axis(Scale(math.log10(low) - pad, math.log10(high) + pad, start, end), True)
    pad = max((high - low) * 0.1, abs(high) * 0.05, 1e-9)
    first = 0.0 if from_zero and low >= 0 else max(0.0, low - pad)
    return Axis(Scale(first, high + pad, start, end), False)


def draw_upward(drawing: Drawing, frame: Frame, axis: Axis) -> None:
    """Draw lines across a frame at the ticks of its upward axis, with their numbers on the left."""
    for tick in axis.ticks:
        y = axis.at(tick)
        drawing.line(frame.x, y, frame.right, y, "axis" if tick == 0 else "rule")
        drawing.text(frame.x - 7, y + 3.5, short(tick, digits=1), anchor="end")
