"""The detector of plateaus and peaks in a loss."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from growmas.shift.absolute_thresholds import AbsoluteThresholds
from growmas.shift.event import ShiftEvent, check_settings, check_state, finite
from growmas.shift.relative_thresholds import FEWEST, RelativeThresholds

Mode = Literal["relative", "paper"]


class PlateauDetector:
    """Tells from a loss alone when a task has been learnt and when another one has come.

    Give it the loss of every batch before the network is updated on it, the penalty left out. It
    needs no thought about the scale of the loss: in mode "relative" (see
    `growmas.shift.relative_thresholds`) its events are the same whatever the losses are multiplied by. Mode
    "paper" has the absolute thresholds of Aljundi et al., CVPR 2019 (see
    `growmas.shift.absolute_thresholds`). O(window) memory, no randomness.

    A shift whose loss does not rise, because the network still knows the task or because the rise
    is within the noise, cannot be seen in a loss; `NoveltyDetector` looks at inputs.

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
        step: How many losses were seen.
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
        """Prepare for a stream.

        Args:
            window: Recent losses that are taken together; None for 10, or the 5 of the paper.
            mode: "relative" or "paper"; the following five are of the first, the two thresholds
                of the second.
            reference: Losses before the window with which new ones are compared.
            rise: Share of the loss's fall that a rise must be large against.
            evidence: How much of a rise makes a peak.
            flat: Share of the fall that a plateau may still fall by within a window.
            spread: Most standard deviation of a plateau, as a share of the fall.
            mean_threshold: A plateau's mean is below it.
            variance_threshold: And its variance below this.
            refractory: Steps after a peak in which losses are taken in but not judged; None for a
                window, or 0 in mode "paper". (Until its reference has filled up again, mode
                "relative" has nothing to judge by anyway.)

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
            window=(window, _whole(window, 2), at_least + "2"),
            reference=(reference, _whole(reference, FEWEST), f"{at_least}{FEWEST}"),
            refractory=(refractory, _whole(refractory, 0), at_least + "0"),
            rise=(rise, rise > 0, "a number > 0"),
            evidence=(evidence, evidence > 2, "a number > 2, what one outlier can reach"),
            flat=(flat, flat >= 0, "a number >= 0"),
            spread=(spread, spread >= 0, "a number >= 0"),
            mean_threshold=(mean_threshold, mean_threshold == mean_threshold, "a number"),
            variance_threshold=(variance_threshold, variance_threshold > 0, "a number > 0"),
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

    def update(self, loss: float) -> ShiftEvent | None:
        """Take in the loss of the next step; tells what happened, if anything did.

        Raises:
            ShiftError: The loss is NaN or infinite; it was not taken in.
        """
        number = finite(loss, self.step)
        event = self._thresholds.update(number, self.step, quiet=self._quiet > 0)
        self._quiet = max(0, self._quiet - 1)
        self.step += 1
        if event is not None and event.kind == "peak":
            self._quiet = self._refractory
        return event

    def state_dict(self) -> dict[str, Any]:
        """Settings and all that it remembers, as JSON values."""
        return {
            "settings": dict(self._settings),
            "step": self.step,
            "quiet": self._quiet,
            "rule": self._thresholds.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ShiftError: Something is missing, or the settings differ.
        """
        check_state(state, self.state_dict(), type(self).__name__)
        self.step, self._quiet = int(state["step"]), int(state["quiet"])
        self._thresholds.restore(state["rule"])


def _whole(number: object, least: int) -> bool:
    return type(number) is int and number >= least
