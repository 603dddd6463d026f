"""Absolute thresholds on the mean and variance of a window of losses, as published."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from growmas.shift.event import ShiftEvent


class AbsoluteThresholds:
    """Plateaus and peaks as in task-free MAS, Aljundi et al., CVPR 2019, §3.

    A plateau is reported if the detector is armed, the window is full, its mean is below one
    threshold and its variance (population) below another. (The released code does not require a
    full window, so that its first loss, with a variance of 0, counts as a plateau if it is low.)
    A plateau disarms the detector and a peak arms it again. A peak is reported if the mean is
    above that of the last plateau by more than the standard deviation of that plateau.

    Args:
        window: Number of losses.
        mean_threshold: The mean of a plateau is below it.
        variance_threshold: The variance of a plateau is below it.
    """

    def __init__(self, window: int, mean_threshold: float, variance_threshold: float) -> None:
        self._window = window
        self._mean = mean_threshold
        self._variance = variance_threshold
        self._losses: deque[float] = deque(maxlen=window)
        self._plateau: tuple[float, float] | None = None  # mean and deviation; None while armed

    def update(self, loss: float, step: int, *, quiet: bool = False) -> ShiftEvent | None:
        """Add the loss to the window, and return an event if there is one.

        Args:
            loss: The next loss.
            step: Its step.
            quiet: True to record the loss without judging it.
        """
        self._losses.append(loss)
        if quiet or len(self._losses) < self._window:
            return None
        mean = math.fsum(self._losses) / self._window
        variance = math.fsum((x - mean) ** 2 for x in self._losses) / self._window
        if self._plateau is None:
            return self._plateau_at(step, mean, variance)
        level, deviation = self._plateau
        if mean <= level + deviation:
            return None
        self._plateau = None
        return ShiftEvent(
            "peak",
            step,
            step - self._window + 1,
            f"window mean {mean:.3g} above {level:.3g} + {deviation:.3g} of the last plateau",
            {"mean": mean},
            {"mean": level + deviation},
        )

    def _plateau_at(self, step: int, mean: float, variance: float) -> ShiftEvent | None:
        """Return a plateau if mean and variance are below their thresholds."""
        if not (mean < self._mean and variance < self._variance):
            return None
        self._plateau = (mean, math.sqrt(variance))
        return ShiftEvent(
            "plateau",
            step,
            step - self._window + 1,
            f"window mean {mean:.3g} below {self._mean:g}, variance {variance:.3g} below "
            f"{self._variance:g}",
            {"mean": mean, "variance": variance},
            {"mean": self._mean, "variance": self._variance},
        )

    def state(self) -> dict[str, Any]:
        """Return everything remembered, as JSON values."""
        plateau = None if self._plateau is None else list(self._plateau)
        return {"losses": list(self._losses), "plateau": plateau}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned."""
        self._losses = deque(state["losses"], maxlen=self._window)
        plateau = state["plateau"]
        self._plateau = None if plateau is None else (plateau[0], plateau[1])
