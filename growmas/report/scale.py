"""Scales and labels of axes: positions of numbers, round ticks, names of tasks that fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LETTER = 6.0  # pixels per letter of the small text, a little more than the average


@dataclass(frozen=True)
class Scale:
    """Positions of numbers on a linear axis.

    Attributes:
        low: Number at `start`.
        high: Number at `end`.
        start: Pixel of `low`.
        end: Pixel of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a number."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.0
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> tuple[float, ...]:
        """About five round numbers from low to high."""
        return ticks(self.low, self.high)


def ticks(low: float, high: float, *, most: int = 5) -> tuple[float, ...]:
    """Return about `most` multiples of 1, 2 or 5 times a power of ten from low to high.

    >>> ticks(0, 410)
    (0.0, 100.0, 200.0, 300.0, 400.0)
    """
    if not high > low:
        return (low,)
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal.

    >>> percent(0.934), percent(None)
    ('93.4%', '·')
    """
    return "·" if share is None else f"{100 * share:z.1f}%".replace("-", "−")


def fitted(text: str, pixels: float) -> str:
    """Return a text shortened until it fits.

    >>> fitted("permutation", 40)
    'permu…'
    """
    most = max(1, int(pixels / _LETTER))
    return text if len(text) <= most else f"{text[: max(1, most - 1)]}…"


def narrowed(name: str, pixels: float) -> str:
    """Return a name without its middle if it does not fit: names differ at their ends.

    >>> narrowed("sweep/seed=1,strength=0.1", 80)
    'sweep/…th=0.1'
    """
    most = max(3, int(pixels / _LETTER))
    if len(name) <= most:
        return name
    start = most // 2
    return f"{name[:start]}…{name[start + 1 - most :]}"


@dataclass(frozen=True)
class TaskLabels:
    """Labels below an axis of tasks.

    Attributes:
        heading: Name of the axis: "task", or the words that all names begin with.
        labels: One label per task; empty where it does not fit.
    """

    heading: str
    labels: tuple[str, ...]


def task_labels(names: Sequence[str], step: float) -> TaskLabels:
    """Return names if they fit, else names without their common beginning, else numbers.

    >>> task_labels(["permutation 1", "permutation 2"], 20)
    TaskLabels(heading='permutation', labels=('1', '2'))
    """
    if _widest(names) <= step:
        return TaskLabels("task", tuple(names))
    start = common_start(names).rpartition(" ")[0]
    rests = [name.removeprefix(start).strip() for name in names]
    heading = start or "task"
    if not start or _widest(rests) > 3 * step:
        rests, heading = [str(i) for i in range(len(names))], "task (counted from 0)"
    every = max(1, math.ceil(_widest(rests) / step))
    every = next((round_ for round_ in (1, 2, 5, 10, 20, 25, 50) if round_ >= every), every)
    return TaskLabels(heading, tuple("" if i % every else rest for i, rest in enumerate(rests)))


def row_labels(names: Sequence[str], pixels: float) -> tuple[str, ...]:
    """Return names, or names without their common beginning if they do not fit.

    >>> row_labels(["permutation 1", "permutation 2"], 40)
    ('1', '2')
    """
    if _widest(names) <= pixels + 8:
        return tuple(names)
    start = common_start(names).rpartition(" ")[0]
    return tuple(name.removeprefix(start).strip() for name in names)


def common_start(names: Sequence[str]) -> str:
    """Return the longest common beginning of all names.

    >>> common_start(["mnist-mas", "mnist-ewc"])
    'mnist-'
    """
    first, last = min(names), max(names)
    pairs = zip(first, last, strict=False)
    return first[: next((i for i, (a, b) in enumerate(pairs) if a != b), len(first))]


def _widest(names: Sequence[str]) -> float:
    return max((len(name) for name in names), default=0) * _LETTER + 8
