"""Shifts seen in the inputs, without labels: how unlike what came before they are."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from growmas.shift.cusum import Cusum
from growmas.shift.event import ShiftEvent, check_settings

if TYPE_CHECKING:
    from growmas.contexts import GaussianContext


class NoveltyDetector:
    """A peak where inputs come to lie far from a Gaussian of those since the last peak.

    Every batch is measured before it is learnt: the mean `GaussianContext.novelty` of its samples
    goes into a `Cusum`. After a peak a Gaussian is begun anew. It sees shifts that cost no loss,
    needs no labels, and is blind where the same inputs come to mean something else.

    Attributes:
        step: How many batches were seen.
    """

    def __init__(
        self,
        samples: int = 300,
        *,
        threshold: float = 5.0,
        make: Callable[[], "GaussianContext"] | None = None,
    ) -> None:
        """Prepare for a stream.

        Args:
            samples: How many the Gaussian learns from before it measures any.
            threshold: Of the `Cusum`.
            make: Makes a context; None makes `GaussianContext(50)`.

        Raises:
            ShiftError: A setting is out of range.
        """
        check_settings(
            samples=(samples, type(samples) is int and samples >= 2, "a whole number >= 2")
        )
        self.step = 0
        self._samples = samples
        self._make = make or _gaussian
        self._cusum = Cusum(threshold)
        self._context = self._make()
        self._seen = 0

    def update(self, inputs: Any) -> ShiftEvent | None:
        """Take in the inputs of the next batch; tells of a peak.

        Raises:
            DataError: See `GaussianContext.update`.
        """
        event = None
        if self._seen >= self._samples:
            event = self._cusum.update(float(self._context.novelty(inputs).mean()))
        else:
            self._cusum.step += 1
        if event is not None:
            self._context, self._seen = self._make(), 0
        self._context.update("inputs", inputs)
        self._seen += len(inputs)
        self.step += 1
        return event

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, as tensors and JSON values."""
        return {
            "step": self.step,
            "seen": self._seen,
            "cusum": self._cusum.state_dict(),
            "context": self._context.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ShiftError: The settings of the `Cusum` differ.
            ContextError: Those of the context do.
        """
        self._cusum.load_state_dict(state["cusum"])
        self._context = self._make()
        self._context.load_state_dict(state["context"])
        self.step, self._seen = int(state["step"]), int(state["seen"])


def _gaussian() -> "GaussianContext":
    from growmas.contexts import GaussianContext  # keeps torch out of the detectors of losses

    return GaussianContext(50)
