"""The rule as published: absolute thresholds on mean and variance of a window of losses."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from growmas.shift.event import ShiftEvent


class AbsoluteThresholds:
    """Task-free MAS, Aljundi et al., CVPR 2019, §3.

    A plateau: the window is full (which the released code does not ask, so that its first loss,
    with a variance of 0, counts as a plateau once it is low), armed, its mean below one threshold
    and its variance (population) below another. It disarms; a peak arms again: the mean is above
    that of the last plateau by more than its standard deviation.
    """

    def __init__(self, window: int, mean_threshold: float, variance_threshold: float) -> None:
        self._window = window
        self._mean = mean_threshold
        self._variance = variance_threshold
        self._losses: deque[float] = deque(maxlen=window)
        self._plateau: tuple[float, float] | None = None  # mean and deviation; None while armed

    def update(self, loss: float, step: int, *, quiet: bool = False) -> ShiftEvent | None:
        """What the window says once it holds the loss."""
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
        """JSON values."""
        plateau = None if self._plateau is None else list(self._plateau)
        return {"losses": list(self._losses), "plateau": plateau}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._losses = deque(state["losses"], maxlen=self._window)
        plateau = state["plateau"]
        self._plateau = None if plateau is None else (plateau[0], plateau[1])
