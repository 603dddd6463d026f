"""Drift detectors of river (https://riverml.xyz) with the interface of growmas detectors."""

from collections.abc import Mapping
from typing import Any

from growmas.errors import ShiftError
from growmas.shift.event import ShiftEvent, finite


class RiverDetector:
    """Report a peak when a drift detector of river detects that the loss has risen.

    Detectors such as ADWIN also detect a loss that falls, which is what learning does. Those
    drifts are ignored: the mean of the last `recent` losses must be above the mean of the losses
    before them, since the previous drift.

    Args:
        detector: An object with `update(x)` and `drift_detected`, such as `river.drift.ADWIN()`.
        recent: Number of last losses that count as "after" the drift.
    """

    def __init__(self, detector: Any, *, recent: int = 5) -> None:
        if not hasattr(detector, "drift_detected"):
            raise ShiftError(
                f"detector= is a {type(detector).__name__} without drift_detected: give a detector "
                "of river.drift, such as ADWIN()"
            )
        self.step = 0
        self._detector = detector
        self._recent = recent
        self._losses: list[float] = []

    def update(self, loss: float) -> ShiftEvent | None:
        """Process the next loss; return a peak event, or None."""
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
        """Refuse: river's detectors have no state of plain values.

        Raises:
            ShiftError: Always; the detectors can only be pickled.
        """
        raise ShiftError(
            "river's detectors have no state that a checkpoint can hold: use PlateauDetector or "
            "Cusum where a run is to be resumed"
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse: river's detectors have no state of plain values.

        Raises:
            ShiftError: Always.
        """
        self.state_dict()
