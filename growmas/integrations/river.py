"""Drift detectors of river (https://riverml.xyz) behind the interface of growmas."""

from collections.abc import Mapping
from typing import Any

from growmas.errors import ShiftError
from growmas.shift.event import ShiftEvent, finite


class RiverDetector:
    """Reports a peak where a drift detector of river says that the loss has risen.

    Detectors such as ADWIN also tell of a loss that falls, which is what learning does; those are
    left out, by the mean of the losses since the last drift before and after it.

    Args:
        detector: With `update(x)` and `drift_detected`, such as `river.drift.ADWIN()`.
        recent: How many of the last losses are taken for "after".
    """

    def __init__(self, detector: Any, *, recent: int = 5) -> None:
        if not hasattr(detector, "drift_detected"):
            raise ShiftError(
                f"a {type(detector).__name__} has no drift_detected: give a detector of "
                "river.drift, such as ADWIN()"
            )
        self.step = 0
        self._detector = detector
        self._recent = recent
        self._losses: list[float] = []

    def update(self, loss: float) -> ShiftEvent | None:
        """Take in the next loss; tells of a peak."""
        number, step = finite(loss, self.step), self.step
        self.step += 1
        self._losses.append(number)
        self._detector.update(number)
        if not self._detector.drift_detected:
            return None
        held, self._losses = self._losses, []
        before, after = held[: -self._recent], held[-self._recent :]
        if not before or sum(after) / len(after) <= sum(before) / len(before):
            return None
        return ShiftEvent("peak", step, step, f"{type(self._detector).__name__} of river")

    def state_dict(self) -> dict[str, Any]:
        """Not to be had.

        Raises:
            ShiftError: Always: river's detectors can only be pickled.
        """
        raise ShiftError(
            "river's detectors have no state that a checkpoint can hold: use PlateauDetector or "
            "Cusum where a run is to be resumed"
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `state_dict`."""
        self.state_dict()
