"""The scoring of detectors: run over stored losses and compared with the true shifts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from growmas.errors import ShiftError
from growmas.shift.event import Detector, ShiftEvent
from growmas.shift.plateau import PlateauDetector

TOLERANCE = 50
"""Steps after a shift in which a peak still finds it."""


@dataclass(frozen=True)
class DetectionScore:
    """The agreement of the peaks of a detector with the true shifts.

    Attributes:
        shifts: Number of true shifts.
        found: Number of shifts that were found by a peak.
        peaks: Number of peaks reported.
        delays: Steps from the beginning of each shift found to its peak.
        steps: Length of the stream; None if it was not given.
    """

    shifts: int
    found: int
    peaks: int
    delays: tuple[int, ...]
    steps: int | None = None

    @property
    def recall(self) -> float | None:
        """Share of the true shifts that were found; None if there are none."""
        return self.found / self.shifts if self.shifts else None

    @property
    def precision(self) -> float | None:
        """Share of the peaks that found a shift; None if there are none."""
        return self.found / self.peaks if self.peaks else None

    @property
    def delay(self) -> float | None:
        """Median delay in steps; None if no shift was found."""
        return float(median(self.delays)) if self.delays else None

    @property
    def false_alarms(self) -> int:
        """Number of peaks that did not find a shift."""
        return self.peaks - self.found

    @property
    def false_alarms_per_1000(self) -> float | None:
        """False alarms per 1,000 steps; None if the length of the stream was not given."""
        return 1000 * self.false_alarms / self.steps if self.steps else None


def replay(losses: Iterable[float], detector: Detector | None = None) -> tuple[ShiftEvent, ...]:
    """Return the events of a detector on stored losses.

    Args:
        losses: The losses in order.
        detector: A fresh detector; None takes `PlateauDetector()`.

    Raises:
        ShiftError: A loss is NaN or infinite, or `detector` is not a detector.
    """
    if not (detector is None or isinstance(detector, Detector)) or isinstance(detector, type):
        raise ShiftError(
            f"detector={detector!r:.80}: expected a detector, such as PlateauDetector(), or None"
        )
    detector = PlateauDetector() if detector is None else detector
    return tuple(event for loss in losses if (event := detector.update(loss)) is not None)


def score(
    events: Iterable[ShiftEvent],
    true_shifts: Sequence[int | tuple[int, int]],
    *,
    steps: int | None = None,
    tolerance: int = TOLERANCE,
) -> DetectionScore:
    """Compare peaks with the true shifts; plateaus are not counted.

    A peak finds a shift if it comes at its first step or later, at most `tolerance` steps after
    its last step, and before the next shift. Every further peak there is a false alarm.

    Args:
        events: The events of a detector.
        true_shifts: Steps in rising order; (first, last) for a gradual shift.
        steps: Length of the stream, for false alarms per 1,000 steps.
        tolerance: Steps after a shift in which a peak still finds it, >= 0.

    Raises:
        ShiftError: The true shifts are not in order, or the tolerance is negative.
    """
    spans = [(s, s) if isinstance(s, int) else (s[0], s[1]) for s in true_shifts]
    firsts = [first for first, _ in spans]
    if tolerance < 0 or firsts != sorted(set(firsts)) or any(last < f for f, last in spans):
        raise ShiftError(
            f"true_shifts must rise, each (first, last) with first <= last, and tolerance be >= 0; "
            f"got {list(true_shifts)}, tolerance={tolerance}"
        )
    peaks = sorted(event.step for event in events if event.kind == "peak")
    delays = []
    for index, (first, last) in enumerate(spans):
        end = last + tolerance
        if index + 1 < len(firsts):
            end = min(end, firsts[index + 1] - 1)
        within = [peak for peak in peaks if first <= peak <= end]
        if within:
            delays.append(within[0] - first)
    return DetectionScore(len(spans), len(delays), len(peaks), tuple(delays), steps)
