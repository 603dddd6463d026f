"""Relative thresholds, which measure a loss in units of its own past."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from growmas.shift.event import ShiftEvent

FEWEST = 10
"""Smallest number of losses in a reference."""

CLIP = 2.5
"""Largest contribution of one loss, so that a single outlier is not a peak."""

SLACK = 0.5
"""Rise of a loss, in units of the scale, below which it does not count."""

FALLS = 5
"""Number of the last falls that are remembered."""


class RelativeThresholds:
    """Peaks by a cumulative sum over a robust reference; plateaus where the loss no longer falls.

    The reference R is the `reference` losses before the last `window` ones, since the last peak.
    Let m be its median. The *fall* f is the amount by which the loss has fallen, from the mean of
    the first window after the last peak to m, but at least the median of the last five falls. A
    loss x rises by

        z = min(CLIP, (x − m) / s),  s = max(max R − m, rise · f),

    that is, in units of the largest rise in the reference or of a share of the fall, whichever is
    larger: noise increases the first, and for a loss near 0 the second keeps bursts from counting.
    A peak is reported where the evidence S ← max(0, S + z − SLACK) exceeds a threshold (a
    one-sided CUSUM, Page 1954), for instance after two losses 1.85 scales above the median, or
    six losses 1 scale above it. Its onset is the step at which S left 0.

    A plateau is reported if the detector is armed, the mean of the last window is below that of
    the window before by at most flat · f, and its standard deviation is at most spread · f. A
    plateau disarms the detector and a peak arms it again.

    The rule is equivariant: losses multiplied by a constant, or increased by one, give the same
    events.

    Args:
        window: Number of recent losses.
        reference: Number of losses before them.
        rise: Share of the fall.
        evidence: Threshold on S.
        flat: Share of the fall by which a plateau may still fall.
        spread: Largest standard deviation of a plateau, as a share of the fall.
    """

    def __init__(
        self,
        window: int,
        *,
        reference: int,
        rise: float,
        evidence: float,
        flat: float,
        spread: float,
    ) -> None:
        self._window = window
        self._reference = reference
        self._rise = rise
        self._threshold = evidence
        self._flat = flat
        self._spread = spread
        self._losses: deque[float] = deque(maxlen=reference + window)
        self._falls: deque[float] = deque(maxlen=FALLS)
        self._armed = True
        self._start: float | None = None
        self._evidence = 0.0
        self._onset = 0

    def update(self, loss: float, step: int, *, quiet: bool = False) -> ShiftEvent | None:
        """Take the loss into account, and return an event if there is one.

        Args:
            loss: The next loss.
            step: Its step.
            quiet: True to record the loss without judging it.
        """
        held = list(self._losses)
        compared = held[: max(0, len(held) - self._window)][-self._reference :]
        enough = len(compared) >= FEWEST and not quiet
        event = self._peak(loss, step, compared) if enough else None
        if event is not None:
            return event
        self._losses.append(loss)
        if self._start is None and len(self._losses) == self._window:
            self._start = _mean(self._losses)
        if self._armed and not quiet and len(self._losses) >= 2 * self._window:
            return self._plateau(step)
        return None

    def _peak(self, loss: float, step: int, compared: Sequence[float]) -> ShiftEvent | None:
        """Add the loss to the evidence, and return a peak if it exceeds the threshold."""
        middle = median(compared)
        fall = self._fall(middle)
        scale = max(max(compared) - middle, self._rise * fall)
        excess = loss - middle
        rise = min(CLIP, excess / scale) if scale > 0 else (CLIP if excess > 0 else 0.0)
        if self._evidence == 0:
            self._onset = step
        self._evidence = max(0.0, self._evidence + rise - SLACK)
        if self._evidence <= self._threshold:
            return None
        event = ShiftEvent(
            "peak",
            step,
            self._onset,
            f"loss {loss:.3g}, {rise:.2g} scales of {scale:.3g} above the median {middle:.3g} of "
            f"{len(compared)} earlier ones; evidence {self._evidence:.3g} since step {self._onset}",
            {"loss": loss, "median": middle, "scale": scale, "evidence": self._evidence},
            {"evidence": self._threshold},
        )
        self._falls.append(self._fall(middle, alone=True))
        self._losses.clear()
        self._armed, self._start, self._evidence = True, None, 0.0
        return event

    def _plateau(self, step: int) -> ShiftEvent | None:
        """Return a plateau if the last window has neither fallen nor varied much."""
        held = list(self._losses)
        last, before = held[-self._window :], held[-2 * self._window : -self._window]
        mean, earlier, fall = _mean(last), _mean(before), self._fall(median(last))
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in last) / len(last))
        if earlier - mean > self._flat * fall or deviation > self._spread * fall or fall <= 0:
            return None
        self._armed = False
        return ShiftEvent(
            "plateau",
            step,
            step - self._window + 1,
            f"window mean {mean:.3g} after {earlier:.3g}, deviation {deviation:.3g}, when the loss "
            f"has fallen by {fall:.3g}",
            {"mean": mean, "before": earlier, "deviation": deviation, "fall": fall},
            {"decrease": self._flat * fall, "deviation": self._spread * fall},
        )

    def _fall(self, level: float, *, alone: bool = False) -> float:
        """Return the fall to `level`, at least the median of the last falls unless `alone`."""
        since = 0.0 if self._start is None else max(0.0, self._start - level)
        return since if alone or not self._falls else max(since, median(self._falls))

    def state(self) -> dict[str, Any]:
        """Return everything remembered, as JSON values."""
        return {
            "losses": list(self._losses),
            "falls": list(self._falls),
            "armed": self._armed,
            "start": self._start,
            "evidence": self._evidence,
            "onset": self._onset,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned."""
        self._losses = deque(state["losses"], maxlen=self._reference + self._window)
        self._falls = deque(state["falls"], maxlen=FALLS)
        self._armed, self._start = state["armed"], state["start"]
        self._evidence, self._onset = state["evidence"], state["onset"]


def _mean(losses: Sequence[float] | deque[float]) -> float:
    """Return the mean, summed exactly."""
    return math.fsum(losses) / len(losses)
