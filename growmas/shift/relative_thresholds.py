"""The scale-free rule: a loss measured in units of its own past."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from growmas.shift.event import ShiftEvent

FEWEST = 10
"""Losses that a reference needs before anything is compared with it."""

CLIP = 2.5
"""Most that one loss can count for: a single outlier must not be a peak."""

SLACK = 0.5
"""What a loss must rise by, in units of the scale, to count at all."""

FALLS = 5
"""How many of the last falls are remembered."""


class RelativeThresholds:
    """Peaks by a cumulative sum over a robust reference; plateaus by what has stopped falling.

    The reference R are the `reference` losses before the last `window`, since the last peak. With
    m its median, the *fall* f is what the loss has fallen by: from the mean of the first window
    after the last peak to m, but at least the median of the last five falls. A loss x rises by

        z = min(CLIP, (x − m) / s),  s = max(max R − m, rise · f),

    that is in units of the largest rise in the reference or of a share of the fall, whichever is
    more: noise makes the first large, and where a loss is all but 0 the second keeps bursts from
    counting. A peak is where the evidence S ← max(0, S + z − SLACK) exceeds a threshold (a
    one-sided CUSUM, Page 1954): two losses 1.85 scales above the median, say, or six at 1. Its
    onset is where S left 0.

    A plateau: armed, the mean of the last window is below that of the window before by no more
    than flat · f, and its standard deviation is at most spread · f. It disarms, a peak arms again.

    All of it is equivariant: losses times a constant, or plus one, give the same events.
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
        """What the losses say, this one included."""
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
        """By how much the loss has fallen to `level`, or falls as a rule."""
        since = 0.0 if self._start is None else max(0.0, self._start - level)
        return since if alone or not self._falls else max(since, median(self._falls))

    def state(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "losses": list(self._losses),
            "falls": list(self._falls),
            "armed": self._armed,
            "start": self._start,
            "evidence": self._evidence,
            "onset": self._onset,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._losses = deque(state["losses"], maxlen=self._reference + self._window)
        self._falls = deque(state["falls"], maxlen=FALLS)
        self._armed, self._start = state["armed"], state["start"]
        self._evidence, self._onset = state["evidence"], state["onset"]


def _mean(losses: Sequence[float] | deque[float]) -> float:
    return math.fsum(losses) / len(losses)
