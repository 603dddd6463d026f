"""The plateau detector, which finds plateaus and peaks in a loss."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from growmas.settings import is_number, is_whole
from growmas.shift.absolute_thresholds import AbsoluteThresholds
from growmas.shift.event import ShiftEvent, check_settings, check_state, finite
from growmas.shift.relative_thresholds import CLIP, FEWEST, SLACK, RelativeThresholds

Mode = Literal["relative", "paper"]


class PlateauDetector:
    """Report from a loss alone when a task has been learnt and when another one has come.

    Pass it the loss of every batch before the network is updated on it, without the penalty. The
    scale of the loss does not matter: in mode "relative" (see
    `growmas.shift.relative_thresholds`) the events do not change if all losses are multiplied
    by a constant. Mode "paper" has the absolute thresholds of Aljundi et al., CVPR 2019 (see
    `growmas.shift.absolute_thresholds`). O(window) memory, no randomness.

    A shift that does not raise the loss, because the network still knows the task or because the
    rise is within the noise, cannot be detected in a loss; `NoveltyDetector` looks at inputs.

    Example:
        >>> import growmas
        >>> detector = growmas.PlateauDetector()
        >>> losses = [2.0 * 0.8**i for i in range(60)] + [1.9, 1.8, 1.5]
        >>> for loss in losses:
        ...     if event := detector.update(loss):
        ...         print(event.kind, event.step, event.onset)
        plateau 32 23
        peak 61 60

    Attributes:
        step: Number of losses seen.
    """

    def __init__(
        self,
        window: int | None = None,
        mode: Mode = "relative",
        *,
        reference: int = 30,
        rise: float = 0.1,
        evidence: float = 2.7,
        flat: float = 0.05,
        spread: float = 0.2,
        mean_threshold: float = 0.2,
        variance_threshold: float = 0.1,
        refractory: int | None = None,
    ) -> None:
        """Prepare for the first loss.

        Args:
            window: Number of recent losses that are judged together; None for 10, or for the 5 of
                the paper in mode "paper".
            mode: "relative" or "paper". `reference`, `rise`, `evidence`, `flat` and `spread` are
                used by "relative", the two thresholds by "paper".
            reference: Number of losses before the window with which new ones are compared.
            rise: Share of the loss's fall in units of which a rise is measured at least.
            evidence: Evidence above which a peak is reported.
            flat: Share of the fall by which a plateau may still fall within a window.
            spread: Largest standard deviation of a plateau, as a share of the fall.
            mean_threshold: The mean of a plateau is below it.
            variance_threshold: The variance of a plateau is below it.
            refractory: Steps after a peak in which losses are recorded but not judged; None for a
                window, or for 0 in mode "paper". (Mode "relative" does not judge before its
                reference has filled up again, in any case.)

        Raises:
            ShiftError: A setting is out of range; each is named.
        """
        paper = mode == "paper"
        if window is None:
            window = 5 if paper else 10
        if refractory is None:
            refractory = 0 if paper else window
        at_least = "a whole number >= "
        check_settings(
            mode=(mode, mode in get_args(Mode), "'relative' or 'paper'"),
            window=(window, is_whole(window, 2), at_least + "2"),
            reference=(reference, is_whole(reference, FEWEST), f"{at_least}{FEWEST}"),
            refractory=(refractory, is_whole(refractory, 0), at_least + "0"),
            rise=(rise, is_number(rise) and rise > 0, "a number > 0"),
            evidence=(
                evidence,
                is_number(evidence) and evidence > CLIP - SLACK,
                f"a number > {CLIP - SLACK:g}, which a single outlier can reach",
            ),
            flat=(flat, is_number(flat) and flat >= 0, "a number >= 0"),
            spread=(spread, is_number(spread) and spread >= 0, "a number >= 0"),
            mean_threshold=(mean_threshold, is_number(mean_threshold), "a number"),
            variance_threshold=(
                variance_threshold,
                is_number(variance_threshold) and variance_threshold > 0,
                "a number > 0",
            ),
        )
        self.step = 0
        self._refractory = refractory
        self._quiet = 0
        self._settings: dict[str, Any] = {"mode": mode, "window": window, "refractory": refractory}
        relative = {
            "reference": reference,
            "rise": rise,
            "evidence": evidence,
            "flat": flat,
            "spread": spread,
        }
        self._thresholds: AbsoluteThresholds | RelativeThresholds
        if paper:
            self._thresholds = AbsoluteThresholds(window, mean_threshold, variance_threshold)
            self._settings |= {"mean": mean_threshold, "variance": variance_threshold}
        else:
            self._thresholds = RelativeThresholds(
                window, reference=reference, rise=rise, evidence=evidence, flat=flat, spread=spread
            )
            self._settings |= relative

    def __repr__(self) -> str:
        settings = f"window={self._settings['window']}, mode={self._settings['mode']!r}"
        return f"{type(self).__name__}({settings}; step {self.step})"

    def update(self, loss: float) -> ShiftEvent | None:
        """Take in the loss of the next step, and return an event if there is one.

        Raises:
            ShiftError: The loss is NaN, infinite or not one number; it was not taken in.
        """
        number = finite(loss, self.step)
        event = self._thresholds.update(number, self.step, quiet=self._quiet > 0)
        self._quiet = max(0, self._quiet - 1)
        self.step += 1
        if event is not None and event.kind == "peak":
            self._quiet = self._refractory
        return event

    def state_dict(self) -> dict[str, Any]:
        """Return settings and everything remembered, as JSON values."""
        return {
            "settings": dict(self._settings),
            "step": self.step,
            "quiet": self._quiet,
            "rule": self._thresholds.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ShiftError: Something is missing, or the settings differ.
        """
        check_state(state, self.state_dict(), type(self).__name__)
        self.step, self._quiet = int(state["step"]), int(state["quiet"])
        self._thresholds.restore(state["rule"])
