"""The cumulative sum (CUSUM) of the textbook."""

import math
from collections.abc import Mapping
from typing import Any

from growmas.settings import is_number, is_whole
from growmas.shift.event import ShiftEvent, check_settings, check_state, finite


class Cusum:
    """A one-sided cumulative sum of standardised values (Page 1954).

    S ← max(0, S + (x − mean) / deviation − slack); a peak is reported where S exceeds the
    threshold. Mean and standard deviation are those of all values since the last peak, of which
    there must be `minimum`. It does not report plateaus. Slack 1/2 and threshold 5 are those of
    the textbook, for values that are normal and stationary; losses are neither.

    `NoveltyDetector` is built on it. It stands here although river has drift detectors of its
    kind, because those have no state that a checkpoint without pickles can hold.

    Attributes:
        step: Number of values seen.
    """

    def __init__(self, threshold: float = 5.0, slack: float = 0.5, *, minimum: int = 20) -> None:
        """Prepare for the first value.

        Args:
            threshold: Evidence above which a peak is reported, in standard deviations.
            slack: Rise that does not count, in standard deviations.
            minimum: Number of values before the first one is judged.

        Raises:
            ShiftError: A setting is out of range.
        """
        check_settings(
            threshold=(threshold, is_number(threshold) and threshold > 0, "a number > 0"),
            slack=(slack, is_number(slack) and slack >= 0, "a number >= 0"),
            minimum=(minimum, is_whole(minimum, 2), "a whole number >= 2"),
        )
        self.step = 0
        self._settings = {"threshold": threshold, "slack": slack, "minimum": minimum}
        self._count, self._onset = 0, 0
        self._mean = self._squares = self._evidence = 0.0

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings.items())
        return f"{type(self).__name__}({settings}; step {self.step})"

    def update(self, loss: float) -> ShiftEvent | None:
        """Take in the next value, and return a peak if there is one.

        Raises:
            ShiftError: The value is NaN, infinite or not one number; it was not taken in.
        """
        value, step = finite(loss, self.step), self.step
        self.step += 1
        if self._count >= self._settings["minimum"]:
            deviation = math.sqrt(self._squares / (self._count - 1))
            rise = value - self._mean
            if self._evidence == 0:
                self._onset = step
            if deviation > 0:
                rise /= deviation
            self._evidence = max(0.0, self._evidence + rise - self._settings["slack"])
        if self._evidence > self._settings["threshold"]:
            event = ShiftEvent(
                "peak",
                step,
                self._onset,
                f"evidence {self._evidence:.3g} above {self._settings['threshold']:g} since step "
                f"{self._onset}",
                {"loss": value, "mean": self._mean, "evidence": self._evidence},
                {"evidence": self._settings["threshold"]},
            )
            self._count, self._mean, self._squares, self._evidence = 0, 0.0, 0.0, 0.0
            return event
        self._take_in(value)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return settings and everything remembered, as JSON values."""
        return {
            "settings": dict(self._settings),
            "step": self.step,
            "moments": [self._count, self._mean, self._squares],
            "evidence": [self._evidence, self._onset],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ShiftError: Something is missing, or the settings differ.
        """
        check_state(state, self.state_dict(), type(self).__name__)
        self.step = int(state["step"])
        self._count, self._mean, self._squares = state["moments"]
        self._evidence, self._onset = state["evidence"]

    def _take_in(self, value: float) -> None:
        """Update mean and sum of squares by Welford's method."""
        self._count += 1
        above = value - self._mean
        self._mean += above / self._count
        self._squares += above * (value - self._mean)
