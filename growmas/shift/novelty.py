"""The detector of novel inputs, which needs neither labels nor losses."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from growmas.settings import is_whole
from growmas.shift.cusum import Cusum
from growmas.shift.event import ShiftEvent, check_settings

if TYPE_CHECKING:
    from growmas.contexts import GaussianContext


class NoveltyDetector:
    """Report a peak where inputs lie far from a Gaussian of the inputs since the last peak.

    Every batch is measured before it is learnt: the mean `GaussianContext.novelty` of its samples
    is passed to a `Cusum`. After a peak a new Gaussian is started. It detects shifts that do not
    raise the loss and needs no labels; it cannot detect that the same inputs get other labels.

    Attributes:
        step: Number of batches seen.
    """

    def __init__(
        self,
        samples: int = 300,
        *,
        threshold: float = 5.0,
        make: Callable[[], "GaussianContext"] | None = None,
    ) -> None:
        """Prepare for the first batch.

        Args:
            samples: Number of samples that a Gaussian learns from before it measures any.
            threshold: Threshold of the `Cusum`.
            make: Function that makes a context; None makes `GaussianContext(50)`.

        Raises:
            ShiftError: A setting is out of range.
        """
        check_settings(
            samples=(samples, is_whole(samples, 2), "a whole number >= 2"),
            make=(make, make is None or callable(make), "a function without arguments, or None"),
        )
        self.step = 0
        self._samples = samples
        self._make = make or _gaussian
        self._cusum = Cusum(threshold)
        self._context = self._make()
        self._seen = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._samples}; step {self.step})"

    def update(self, inputs: Any) -> ShiftEvent | None:
        """Take in the inputs of the next batch, and return a peak if there is one.

        Raises:
            DataError: The inputs are not finite floats, or have another size than before.
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
        """Return everything remembered, as tensors and JSON values."""
        return {
            "step": self.step,
            "seen": self._seen,
            "cusum": self._cusum.state_dict(),
            "context": self._context.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ShiftError: The settings of the `Cusum` differ.
            ContextError: The settings of the context differ.
        """
        self._cusum.load_state_dict(state["cusum"])
        self._context = self._make()
        self._context.load_state_dict(state["context"])
        self.step, self._seen = int(state["step"]), int(state["seen"])


def _gaussian() -> "GaussianContext":
    """Return the default context."""
    from growmas.contexts import GaussianContext  # keeps torch out of the detectors of losses

    return GaussianContext(50)
